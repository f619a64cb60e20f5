package page_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/runtime"
)

// held is what a page keeps after its garbage is gone.
type held struct{ heap, backing, nodes, listeners float64 }

func (b *tab) held(ctx context.Context) held {
	b.t.Helper()
	for range 2 {
		call(b.t, ctx, heapprofiler.CollectGarbage, cdp.Empty{})
	}
	u := call(b.t, ctx, runtime.GetHeapUsage, cdp.Empty{})
	d := call(b.t, ctx, memory.GetDOMCounters, cdp.Empty{})
	return held{u.UsedSize + u.EmbedderHeapUsedSize, u.BackingStorageSize, float64(d.Nodes), float64(d.JsEventListeners)}
}

// What a page holds after ten minutes with a busy peer is what it held after one. It is shown what ten minutes bring, four times as fast: fifty of
// 10,000 transfers change in each of 2,400 steps, with the details of one open, and closed and opened again.
func TestAPageHoldsNoMoreAfterTenMinutes(t *testing.T) {
	if os.Getenv("SHOAL_LONG") == "" {
		t.Skip("it takes three minutes: SHOAL_LONG=1")
	}
	s := busyPeer()
	s.every = 250 * time.Millisecond / 4
	p := simulate(t, s)
	b := newTab(t, p.addr)
	b.visit(p.login())
	b.sees("transfer-0000")
	minute := func(n int) held {
		for range n * 3 {
			b.run(`location.hash = "#/t/0000"`)
			b.until(`document.querySelectorAll(".peers tbody tr").length === 100`)
			steps := s.steps()
			for s.steps() < steps+80 {
				time.Sleep(100 * time.Millisecond)
			}
			b.run(`location.hash = "#/"`)
			b.until(`document.querySelector(".detail").hidden`)
		}
		return b.held(b.ctx)
	}
	first := minute(1)
	last := minute(9)
	t.Logf("after a minute %.0f; after ten %.0f", first, last)
	for _, c := range []struct {
		what        string
		first, last float64
		slack       float64
	}{{"bytes of heap", first.heap, last.heap, 2 << 20}, {"bytes behind it", first.backing, last.backing, 4 << 20}, {"nodes", first.nodes, last.nodes, 500}, {"listeners", first.listeners, last.listeners, 50}} {
		if c.last > c.first*1.1+c.slack {
			t.Errorf("%.0f %s after a minute, %.0f after ten", c.first, c.what, c.last)
		}
	}
}
