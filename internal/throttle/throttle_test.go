package throttle

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whoever asks, and however unevenly: no span has more than the rate, what may be made up for, and the last part.
func TestNoSpanHasMoreThanTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1<<10, 1<<32).Draw(t, "rate")
		r := New(rate)
		now := time.Unix(1000, 0)
		type part struct {
			at time.Time
			n  int
		}
		var all []part
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(t, "pause")))
			for range rapid.IntRange(1, 5).Draw(t, "askers") {
				n := r.Part(rapid.IntRange(1, 1<<20).Draw(t, "bytes"))
				all = append(all, part{now.Add(r.Reserve(now, n)), n})
			}
		}
		for i := range all {
			sum := 0
			for _, p := range all[i:] {
				sum += p.n
				most := float64(rate)*(p.at.Sub(all[i].at)+slack).Seconds() + float64(p.n) + 1
				if float64(sum) > most+float64(rate)*1e-8*float64(len(all)) {
					t.Fatalf("%d bytes in %v at %d/s, want at most %.0f", sum, p.at.Sub(all[i].at), rate, most)
				}
			}
		}
	})
}

func TestAllThatShareALimitHaveTheSameAndUseAllOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(100_000)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var moved [5]int
		var all sync.WaitGroup
		for i := range moved {
			all.Go(func() {
				for {
					n := r.Part(1 << 20)
					if err := r.Wait(ctx, n); err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
						return
					}
					moved[i] += n
				}
			})
		}
		all.Wait()
		sum := 0
		for _, n := range moved {
			if sum += n; n < 190_000 || n > 210_000 {
				t.Errorf("one of five moved %d of 1,000,000 bytes", n)
			}
		}
		if sum < 980_000 || sum > 1_010_000 {
			t.Errorf("%d bytes in 10 s at 100,000/s", sum)
		}
	})
}

func TestALimitIsChangedWhileSomebodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(1 << 10)
		began := time.Now()
		for range 3 {
			_ = r.Wait(t.Context(), r.Part(1<<20))
		}
		if took := time.Since(began); took < 1900*time.Millisecond {
			t.Errorf("3 KiB at 1 KiB/s took %v: the first at once, then one a second", took)
		}
		r.Set(1 << 30)
		began = time.Now()
		for range 20 {
			_ = r.Wait(t.Context(), 1<<20)
		}
		if took := time.Since(began); took > 20*time.Millisecond {
			t.Errorf("20 MiB at 1 GiB/s took %v", took)
		}
		r.Set(0)
		if n := r.Part(1 << 30); n != 1<<30 || r.Reserve(time.Now(), n) != 0 {
			t.Error("a limit that was taken away holds")
		}
		var none *Rate
		if none.Part(5) != 5 || none.Wait(t.Context(), 5) != nil {
			t.Error("no limit at all holds")
		}
	})
}
