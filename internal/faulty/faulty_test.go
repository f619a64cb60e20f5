package faulty

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sent is what the target of the tests says to whoever comes.
var sent = bytes.Repeat([]byte("0123456789abcdef"), 20_000)

// behind makes a relay in front of one who says what it has to say, and then what it hears.
func behind(t *testing.T) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := conn.Write(sent); err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}()
	p, err := New(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); p.Close(); <-served })
	return p
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp4", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func TestWhatIsCarriedIsWhatWasSentButForTheFault(t *testing.T) {
	flipped := slices.Clone(sent)
	flipped[7] ^= 1
	flipped[100_000] ^= 1
	for name, c := range map[string]struct {
		f    Fault
		want []byte
		min  time.Duration
	}{
		"none":   {Fault{}, sent, 0},
		"slices": {Fault{Slice: 777}, sent, 0},
		"late":   {Fault{Delay: 30 * time.Millisecond, Jitter: 10 * time.Millisecond}, sent, 30 * time.Millisecond},
		"slow":   {Fault{Rate: 10 * int64(len(sent)), Slice: 1000}, sent, 90 * time.Millisecond},
		"lost":   {Fault{Lost: 1, Again: 40 * time.Millisecond}, sent, 40 * time.Millisecond},
		"flips":  {Fault{Flip: []int64{7, 100_000}}, flipped, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := behind(t)
			p.Set(Down, c.f)
			began := time.Now()
			conn := dial(t, p)
			_ = conn.CloseWrite()
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, c.want) {
				t.Errorf("%d bytes came, %v", len(got), err)
			}
			if took := time.Since(began); took < c.min {
				t.Errorf("it took %v", took)
			}
			if total, most := p.Carried(); total != int64(len(sent)) || most != total {
				t.Errorf("%d bytes are counted, %d of one", total, most)
			}
		})
	}
}

func TestAConnectionEndsWhereItIsToldTo(t *testing.T) {
	const at = 70_000
	for name, c := range map[string]struct {
		end  End
		want error
	}{"reset": {Reset, syscall.ECONNRESET}, "half": {Half, nil}, "dead": {Dead, syscall.ETIMEDOUT}} {
		t.Run(name, func(t *testing.T) {
			p := behind(t)
			p.Set(Down, Fault{After: at, End: c.end})
			p.Allow(0) // until it is dialled
			conn := dial(t, p)
			p.Allow(-1)
			got := make([]byte, at)
			if _, err := io.ReadFull(conn, got); !bytes.Equal(got, sent[:at]) && c.end != Reset { // a reset may overtake what it follows
				t.Fatalf("%v", err)
			}
			if c.end == Dead {
				_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			}
			n, err := conn.Read(got)
			var late net.Error
			switch {
			case c.end == Half && (n > 0 || !errors.Is(err, io.EOF)),
				c.end == Reset && !errors.Is(err, c.want),
				c.end == Dead && (!errors.As(err, &late) || !late.Timeout()):
				t.Errorf("%d more bytes, %v", n, err)
			}
			if _, err := conn.Write([]byte("x")); err != nil && c.end != Reset {
				t.Errorf("the other direction: %v", err)
			}
		})
	}
}

func TestWhatIsHeldGoesOnWhenItMay(t *testing.T) {
	p := behind(t)
	p.Allow(1000)
	conn := dial(t, p)
	got := make([]byte, 1000)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !p.Held() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if !p.Held() {
		t.Error("it is not held")
	}
	p.Allow(-1)
	_ = conn.CloseWrite()
	if rest, err := io.ReadAll(conn); err != nil || !bytes.Equal(append(got, rest...), sent) {
		t.Errorf("%d bytes came, %v", len(got)+len(rest), err)
	}
}

func TestACutReachesBothSides(t *testing.T) {
	p := behind(t)
	p.Allow(10)
	conn := dial(t, p)
	if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
	if p.Connections() != 1 {
		t.Errorf("%d connections", p.Connections())
	}
}
