package peer

import (
	"bytes"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/throttle"
	"shoal/internal/wire"
)

// withheld is a connection that keeps what is written until it is flushed, as a buffer or a cipher's record does.
type withheld struct {
	net.Conn
	kept []byte
	most int // that was kept at once
}

func (w *withheld) Write(b []byte) (int, error) {
	w.kept = append(w.kept, b...)
	w.most = max(w.most, len(w.kept))
	return len(b), nil
}

func (w *withheld) flush() error {
	b := w.kept
	w.kept = nil
	_, err := w.Conn.Write(b)
	return err
}

// withholding brings a session into use over a connection that keeps what is written.
func withholding(t *testing.T, change func(*SessionConfig)) (*talk, *withheld) {
	t.Helper()
	var w *withheld
	return inUse(t, func(cfg *SessionConfig) {
		w = &withheld{Conn: cfg.Conn}
		cfg.Conn, cfg.Flush = w, w.flush
		change(cfg)
	}), w
}

// What was written before leaves when the next frame has to wait for its turn in a limit.
func TestWhatIsWrittenLeavesBeforeTheNextFrameWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _ := withholding(t, func(cfg *SessionConfig) { cfg.Own = throttle.New(10_000) })
		k.s.Serve(Serving{Request: 1, From: bytes.NewReader(make([]byte, 50_000)), Len: 50_000})
		for second := range 4 {
			time.Sleep(time.Second)
			sum := 0
			for _, m := range k.hears() {
				if data, is := m.(raw); is {
					sum += len(data.b)
				}
			}
			if sum < 9_000 {
				t.Errorf("in second %d %d bytes leave", second, sum)
			}
		}
	})
}

// A piece leaves frame by frame, and not when all of it has been written.
func TestAPieceLeavesFrameByFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, w := withholding(t, func(*SessionConfig) {})
		const size = 4 << 20
		k.s.Serve(Serving{Request: 1, From: bytes.NewReader(make([]byte, size)), Len: size})
		if got := k.hears(); !isA[*wire.End](got[len(got)-1]) {
			t.Fatalf("%d frames came, and no end", len(got))
		}
		k.goesOn()
		k.end(nil)
		synctest.Wait()
		if w.most > 2*(wire.MaxDataBytes+maxFrameHead) {
			t.Errorf("%d bytes were kept at once", w.most)
		}
	})
}

// As soon as a piece is waited for, or served, the round trip is measured every second, however long it was quiet before.
func TestWhoIsBusyPingsEverySecondFromThenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := inUse(t, nil)
		number := uint64(1) // of the first, which came with the greeting
		k.says(&wire.Pong{Number: number})
		answer := func(span time.Duration) (pings int) {
			for began := time.Now(); time.Since(began) < span; time.Sleep(100 * time.Millisecond) {
				for n := k.pings(); n > 0; n-- {
					pings++
					number++
					k.says(&wire.Pong{Number: number})
				}
			}
			return pings
		}
		answer(10 * time.Second)
		k.s.Get(wire.Get{Channel: 1, Credit: 1}, &bucket{})
		if n := answer(5*busyPing + busyPing/2); n < 4 || n > 6 {
			t.Errorf("%d pings in five and a half seconds", n)
		}
	})
}

// The time in which there was nothing to send is not taken for the connection's slowness.
func TestAPauseBetweenPiecesIsNotTakenForSlowness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var below kernel
		k := inUse(t, func(cfg *SessionConfig) { cfg.Below = &below })
		var ends atomic.Int64
		for i := range uint64(20) {
			k.s.Serve(Serving{
				Request: 1 + i, From: bytes.NewReader(make([]byte, 1<<20)), Len: 1 << 20, Done: func(int64, wire.Reason) { ends.Add(1) },
			})
			time.Sleep(10 * time.Second)
			k.hears()
			k.says(&wire.Pong{}) // it is alive
		}
		k.end(nil)
		synctest.Wait()
		if ends.Load() != 20 {
			t.Fatalf("%d pieces are served", ends.Load())
		}
		if !slices.IsSorted(below.limits) {
			t.Errorf("the connection takes all at once, and the kernel may hold %v", below.limits)
		}
	})
}
