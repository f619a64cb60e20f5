package peer

import (
	"bytes"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shoal/internal/wire"
)

// kernel is a network below a session of which the test says what it holds.
type kernel struct {
	limits        []int // what it was told; only before and after the session
	unsent, acked atomic.Int64
	looks         atomic.Int64 // how often it was asked what it holds
	expected      []int        // what the reader said to need; only the reader, and after the session
}

func (k *kernel) Expect(n int)          { k.expected = append(k.expected, n) }
func (k *kernel) LimitUnsent(bytes int) { k.limits = append(k.limits, bytes) }
func (k *kernel) Unsent() int           { k.looks.Add(1); return int(k.unsent.Load()) }
func (k *kernel) Acked() int64          { return k.acked.Load() }

func TestFramesAndWhatTheKernelHoldsFitTheRate(t *testing.T) {
	for _, c := range []struct {
		name          string
		rate          int // bytes per second; 0: frames take no time
		frame, unsent int
	}{
		{"slow as a drip", 100, leastFrame, leastFrame},
		{"1 Mbit/s", 125e3, 7500, 7500},
		{"4 Mbit/s", 500e3, minFrame, minFrame},
		{"25 Mbit/s", 3125e3, 62500, 62500},
		{"80 Mbit/s", 10e6, wire.MaxDataBytes, 200e3},
		{"10 Gbit/s", 1250e6, wire.MaxDataBytes, maxUnsent},
		{"no time at all", 0, wire.MaxDataBytes, maxUnsent},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k kernel
			p := newPace(&k)
			if !slices.Equal(k.limits, []int{firstFrame}) || p.frame != firstFrame {
				t.Fatalf("it begins with frames of %d and limits %v", p.frame, k.limits)
			}
			now := time.Unix(1000, 0)
			for range 1000 {
				if c.rate > 0 {
					now = now.Add(time.Duration(p.frame) * time.Second / time.Duration(c.rate))
				}
				p.sent(now, p.frame)
			}
			near := func(got, want int) bool { return got >= want*99/100 && got <= want*101/100 }
			if !near(p.frame, c.frame) || !near(p.unsent, c.unsent) || k.limits[len(k.limits)-1] != p.unsent {
				t.Errorf("frames of %d, %d unsent (told %d); want %d and %d", p.frame, p.unsent, k.limits[len(k.limits)-1], c.frame, c.unsent)
			}
		})
	}
}

// What an idle connection takes at once, and the time in which there was nothing to send, say nothing of its rate.
func TestAPauseIsNotTakenForSlowness(t *testing.T) {
	p := newPace(nil)
	now := time.Unix(1000, 0)
	send := func(n int) {
		for range n {
			now = now.Add(time.Duration(p.frame) * time.Second / 3125e3)
			p.sent(now, p.frame)
		}
	}
	send(100)
	before := p.frame
	for range 20 {
		p.idle()
		now = now.Add(time.Hour)
		send(1)
	}
	if send(10); p.frame < before*99/100 {
		t.Errorf("frames of %d after pauses, %d before", p.frame, before)
	}
}

func TestAFrameWaitsWhileTheKernelHoldsMuch(t *testing.T) {
	type look struct {
		after  time.Duration // since the last look
		unsent int
		acked  int64
		wait   time.Duration
		stuck  bool
	}
	const kib = 1 << 10
	idle := look{after: -1} // the writer had nothing to send
	for _, c := range []struct {
		name  string
		share int // bytes in a frame's time
		looks []look
	}{
		{"little is held", 16 * kib, []look{{0, 0, 0, 0, false}, {0, 16 * kib, 0, 0, false}}},
		{"it waits until half is left", 16 * kib, []look{{0, 16*kib + 1, 0, frameTime / 2, false}, {0, 64 * kib, 0, frameTime, false}}},
		{"a slow one as long as half of that takes", 4 * kib, []look{{0, 12*kib + 1, 0, slowFrames * frameTime / 2, false}}},
		{"a fast connection does not wait", maxUnsent, []look{{0, 4 << 20, 0, 0, false}, {time.Hour, 4 << 20, 0, 0, false}}},
		{"nothing arrives", 0, []look{
			{0, 64 * kib, 500, maxHold, false}, {deadAfter, 64 * kib, 500, maxHold, false}, {1, 64 * kib, 500, maxHold, true},
		}},
		{"slow, but it arrives", 0, []look{
			{0, 64 * kib, 0, maxHold, false},
			{10 * time.Second, 63 * kib, 1000, maxHold, false},
			{10 * time.Second, 62 * kib, 2000, maxHold, false},
			{10 * time.Second, 61 * kib, 3000, maxHold, false},
		}},
		{"control messages are added while it arrives", 0, []look{
			{0, 64 * kib, 0, maxHold, false},
			{10 * time.Second, 65 * kib, 1000, maxHold, false},
			{10 * time.Second, 66 * kib, 2000, maxHold, false},
			{10 * time.Second, 67 * kib, 3000, maxHold, false},
		}},
		{"it was empty meanwhile", 0, []look{
			{0, 64 * kib, 0, maxHold, false}, {10 * time.Second, 0, 0, 0, false}, {10 * time.Second, 64 * kib, 0, maxHold, false},
		}},
		{"there was nothing to send meanwhile", 0, []look{
			{0, 64 * kib, 0, maxHold, false}, idle, {time.Minute, 64 * kib, 0, maxHold, false},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPace(nil)
			p.set(c.share)
			now := time.Unix(1000, 0)
			for i, l := range c.looks {
				if l == idle {
					p.idle()
					continue
				}
				now = now.Add(l.after)
				p.until = time.Time{}
				wait, stuck := p.wait(now, func() int { return l.unsent }, func() int64 { return l.acked })
				if wait.Round(10*time.Microsecond) != l.wait || stuck != l.stuck {
					t.Errorf("look %d: waits %v, stuck %v; want %v, %v", i, wait, stuck, l.wait, l.stuck)
				}
			}
		})
	}
}

// heldUp begins a session that serves a piece over a network that has just taken more than it can send.
func heldUp(t *testing.T, below *kernel) *talk {
	t.Helper()
	k := inUse(t, func(cfg *SessionConfig) { cfg.Below = below })
	below.unsent.Store(1 << 20)
	k.s.Serve(Serving{Request: 1, From: bytes.NewReader(make([]byte, 1<<20)), Len: 1 << 20})
	if got := k.hears(); len(got) != 0 {
		t.Fatalf("it sends %d frames though the kernel holds much", len(got))
	}
	return k
}

func TestControlMessagesOvertakeDataThatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var below kernel
		k := heldUp(t, &below)
		k.s.Send(&wire.Reset{Channel: 1, Epoch: 2})
		if got := k.hears(); len(got) != 1 || !isA[*wire.Reset](got[0]) {
			t.Fatalf("while data is held it sends %v", got)
		}
		time.Sleep(time.Second)
		if got := k.hears(); len(got) != 0 {
			t.Fatalf("%d frames go though the kernel still holds much", len(got))
		}
		below.unsent.Store(0)
		time.Sleep(maxHold)
		if got := k.hears(); len(got) == 0 || !isA[raw](got[0]) {
			t.Fatalf("when it has sent that, there come %d frames", len(got))
		}
	})
}

// A control message between two looks asks the system nothing: what it said before holds for that long.
func TestWhatTheKernelHoldsIsNotLookedAtForEveryMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var below kernel
		k := heldUp(t, &below)
		before := below.looks.Load()
		for range 10 {
			k.s.Send(&wire.Reset{Channel: 1, Epoch: 2})
			synctest.Wait()
		}
		if got := len(k.hears()); got != 10 {
			t.Errorf("%d of ten messages go", got)
		}
		if n := below.looks.Load() - before; n > 0 {
			t.Errorf("it looked %d times", n)
		}
	})
}

func TestAReaderSaysHowMuchOfAFrameItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var below kernel
		k := inUse(t, func(cfg *SessionConfig) { cfg.Below = &below })
		var got bucket
		k.s.Get(wire.Get{Channel: 1, Credit: 1}, &got)
		const size = 50_000
		f := append(wire.AppendData(nil, 1, size), make([]byte, size)...)
		k.writes(f[:30_000])
		k.writes(f[30_000:])
		k.says(&wire.End{Request: 1})
		k.goesOn()
		if len(below.expected) < 3 || below.expected[0] < size-(4<<10) || below.expected[0] > size || below.expected[len(below.expected)-1] != 0 {
			t.Errorf("it said to need %v of %d bytes, at last 0", below.expected, size)
		}
		if got.b.Len() != size {
			t.Errorf("%d bytes came", got.b.Len())
		}
	})
}

func TestWhoTakesNothingForLongIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var below kernel
		k := heldUp(t, &below)
		pong := time.NewTicker(time.Second) // it is alive, but takes nothing
		defer pong.Stop()
		began := time.Now()
		for moved := range int64(20) { // slowly it does at first
			<-pong.C
			below.acked.Store(moved)
			k.says(&wire.Pong{})
		}
		for len(k.ended) == 0 && time.Since(began) < time.Minute {
			<-pong.C
			k.says(&wire.Pong{})
			synctest.Wait()
		}
		if d := time.Since(began) - 20*time.Second; d < deadAfter || d > deadAfter+2*time.Second {
			t.Errorf("it ended %v after it took the last", d)
		}
		k.ends(ErrOutbox)
	})
}

func TestWhatIsCancelledHasItsEndBeforeOthersAreDone(t *testing.T) {
	for _, early := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var below kernel
			k := heldUp(t, &below)
			serve := func() { k.s.Serve(Serving{Request: 2, From: bytes.NewReader(make([]byte, 9)), Len: 9}) }
			k.says(&wire.Get{Channel: 1, Credit: 2, Request: 2})
			if synctest.Wait(); !early {
				serve()
			}
			k.says(&wire.Cancel{Request: 2})
			if synctest.Wait(); early {
				serve()
			}
			got := k.hears()
			if len(got) != 1 || *got[0].(*wire.End) != (wire.End{Request: 2, Reason: wire.ReasonCancelled}) {
				t.Errorf("it sends %v", got)
			}
		})
	}
}
