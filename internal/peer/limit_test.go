package peer

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/classic"
	"shoal/internal/throttle"
	"shoal/internal/wire"
)

// What is served leaves evenly at the limit, over two sessions together, and control messages do not wait for it.
func TestSessionsThatShareALimitSendEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, size = 64 << 10, 320 << 10
		limit := throttle.New(rate)
		began := time.Now()
		var talks []*talk
		for range 2 {
			k := inUse(t, func(cfg *SessionConfig) { cfg.Limit = limit })
			k.says(&wire.Get{Channel: 1, Credit: 1, Request: 1})
			k.s.Serve(Serving{Request: 1, From: bytes.NewReader(make([]byte, size)), Len: size})
			talks = append(talks, k)
		}
		got, ends := [2]int{}, 0
		for ends < 2 {
			time.Sleep(100 * time.Millisecond)
			before, wants := got, 0
			for i, k := range talks {
				k.s.Send(&wire.Want{Channel: 7, On: true})
				synctest.Wait()
				for _, m := range k.hears() {
					switch m := m.(type) {
					case raw:
						got[i] += len(m.b)
					case *wire.End:
						ends++
					case *wire.Want:
						wants++
					}
				}
			}
			if wants != 2 {
				t.Fatalf("%d of 2 control messages come at once: they wait for the limit", wants)
			}
			if step := got[0] + got[1] - before[0] - before[1]; step > rate/5 {
				t.Errorf("%d bytes in 100 ms at %d/s", step, rate)
			}
			if d := got[0] - got[1]; d > 16<<10 || d < -16<<10 {
				t.Errorf("one has sent %d bytes, the other %d", got[0], got[1])
			}
			if time.Since(began) > time.Minute {
				t.Fatalf("%d bytes after a minute", got)
			}
		}
		if took := time.Since(began); took < 9800*time.Millisecond || took > 10500*time.Millisecond {
			t.Errorf("%d bytes at %d/s took %v", 2*size, rate, took)
		}
	})
}

// A session's own limit holds beside the one that it shares.
func TestASessionKeepsToItsOwnLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 320 << 10
		shared := throttle.New(256 << 10)
		began := time.Now()
		var took [2]time.Duration
		var talks []*talk
		for i, own := range []*throttle.Rate{throttle.New(32 << 10), nil} {
			k := inUse(t, func(cfg *SessionConfig) { cfg.Limit, cfg.Own = shared, own })
			k.says(&wire.Get{Channel: 1, Credit: 1, Request: 1})
			k.s.Serve(Serving{
				Request: 1, From: bytes.NewReader(make([]byte, size)), Len: size, Done: func(int64, wire.Reason) { took[i] = time.Since(began) },
			})
			talks = append(talks, k)
		}
		for time.Since(began) < 12*time.Second {
			time.Sleep(50 * time.Millisecond)
			for _, k := range talks {
				k.hears()
			}
		}
		if took[0] < 9800*time.Millisecond || took[0] > 10500*time.Millisecond {
			t.Errorf("10 s at its own limit took %v", took[0])
		}
		if took[1] == 0 || took[1] > 2*time.Second {
			t.Errorf("the other took %v: it was held to a limit that it has not", took[1])
		}
	})
}

// Classic chunks go and come evenly at the limit. That it makes them slow is nobody's fault: one that brings less than counts as moving is
// not given up.
func TestClassicChunksKeepToALimit(t *testing.T) {
	const size, rate = 200 << 10, 8 << 10
	f, whole := shared(size)
	for _, c := range []struct {
		what     string
		up, down *throttle.Rate
	}{{"up", throttle.New(rate), nil}, {"down", nil, throttle.New(rate)}} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := over(t, func(conn net.Conn) {
					Serve(t.Context(), conn, ServeConfig{
						Open: func(string) (File, bool) { return f, true }, Buffers: NewBuffers(), Log: slog.New(slog.DiscardHandler), Limit: c.up,
						Sent: func(string, int) {}, Changed: func(string, error) {},
					})
				})
				h.Name, h.Limit = "a", c.down
				began := time.Now()
				var got bytes.Buffer
				err := h.Fetch(t.Context(), 0, 0, func(_ uint32, size int64, body io.Reader) error {
					_, err := io.CopyBuffer(struct{ io.Writer }{&got}, body, make([]byte, 1<<20))
					return err
				})
				if err != nil || !bytes.Equal(got.Bytes(), whole) {
					t.Fatalf("%d bytes after %v: %v", got.Len(), time.Since(began), err)
				}
				if took := time.Since(began); took < 24*time.Second || took > 27*time.Second {
					t.Errorf("%d bytes at %d/s took %v", size, rate, took)
				}
			})
		})
	}
}

// Many that share a low limit each move less than counts as moving.
func TestALimitMakesNobodyStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := throttle.New(8 << 10)
		stop := make(chan struct{})
		go func() { // others take nearly all of it
			for {
				select {
				case <-stop:
					return
				case <-time.After(limit.Reserve(time.Now(), 31<<10)):
				}
			}
		}()
		defer close(stop)
		const size = 40 << 10
		chunk := classic.ChunkResponse{Index: 0, Size: size}.Append(nil)
		h := over(t, func(conn net.Conn) {
			hearRequest(conn)
			_, _ = conn.Write(chunk)
			_, _ = conn.Write(make([]byte, size))
		})
		h.Limit = limit
		began := time.Now()
		if err := h.Fetch(t.Context(), 0, 0, take); err != nil {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if took := time.Since(began); took < 2*minTime {
			t.Errorf("it took only %v: this test proves nothing", took)
		}
	})
}

// A small piece takes no larger turn than it has bytes.
func TestASmallPieceTakesASmallTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, func(cfg *SessionConfig) { cfg.Limit = throttle.New(200_000) }) // a turn has 10,000 bytes
		began := time.Now()
		var ends atomic.Int64
		for i := range uint64(40) {
			k.says(&wire.Get{Channel: 1, Credit: i + 1, Request: i + 1})
			k.s.Serve(Serving{Request: i + 1, From: bytes.NewReader(make([]byte, 5000)), Len: 5000, Done: func(int64, wire.Reason) { ends.Add(1) }})
		}
		for ends.Load() < 40 && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took < 900*time.Millisecond || took > 1100*time.Millisecond {
			t.Errorf("200,000 bytes at 200,000/s took %v", took)
		}
	})
}
