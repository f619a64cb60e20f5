package page_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"shoal/internal/daemon"
	"shoal/internal/swarm"
)

// frames counts how long pictures take for some seconds, in milliseconds: the gaps between two, and the longest task of a script.
const frames = `new Promise((done) => {
	const gaps = [], tasks = [];
	new PerformanceObserver((l) => tasks.push(...l.getEntries().map((e) => e.duration))).observe({ entryTypes: ["longtask"] });
	const began = performance.now();
	let last = 0;
	const next = (t) => {
		if (last) gaps.push(t - last);
		last = t;
		if (t - began < %d) return requestAnimationFrame(next);
		gaps.sort((a, b) => a - b);
		done({ n: gaps.length, median: gaps[gaps.length >> 1], p95: gaps[Math.floor(gaps.length * 0.95)], max: gaps.at(-1), long: tasks.length, longest: Math.max(0, ...tasks) });
	};
	requestAnimationFrame(next);
})`

type fluid struct {
	N, Long                   int
	Median, P95, Max, Longest float64
}

// BenchmarkFrames is the pages at work: a peer with 10,000 transfers, of which fifty change four times a second, with the details open of a
// download of a million pieces that 5,000 exchange; and a swarm server with 5,000 members. See bench/README.md.
func BenchmarkFrames(b *testing.B) {
	b.Run("peer", func(b *testing.B) {
		p := simulate(b, busyPeer())
		t := newTab(b, p.addr)
		t.visit(p.login())
		t.sees("transfer-0000")
		t.run(`location.hash = "#/t/0000"`)
		t.until(`document.querySelectorAll(".peers tbody tr").length === 100`)
		measure(b, t)
	})
	b.Run("swarm", func(b *testing.B) {
		n := 0
		views := []swarm.Overview{lookingSwarm(5000, 60), lookingSwarm(4990, 60)}
		p := swarmPage(b, func() swarm.Overview { n++; return views[n%2] })
		t := newTab(b, p.addr)
		t.visit(p.login())
		t.sees("image-00.raw")
		measure(b, t)
	})
}

func measure(b *testing.B, t *tab) {
	for b.Loop() {
		f := eval[fluid](t, fmt.Sprintf(frames, 5000))
		if f.N < 50 {
			b.Fatalf("the page drew %d pictures in five seconds: %+v", f.N, f)
		}
		b.ReportMetric(f.Median, "ms-median")
		b.ReportMetric(f.P95, "ms-p95")
		b.ReportMetric(f.Max, "ms-max")
		b.ReportMetric(f.Longest, "ms-longest-task")
	}
}

// busyPeer is a simulated peer that has much to tell.
func busyPeer() *sim {
	s := lookingPeer()
	r := rand.New(rand.NewPCG(5, 6))
	s.rows = nil
	for i := range 10_000 {
		s.rows = append(s.rows, daemon.Row{
			ID: fmt.Sprintf("%04d", i), Name: fmt.Sprintf("transfer-%04d", i), Kind: daemon.Download, State: daemon.Downloading, Size: 1 << 42, Done: 1 << 40, Swarm: "k7f3wq2m",
			Content: "8f14e45fceea167a5a36dedd4bea2543f8a1b0c7d6e59483726150ab9cde4f01", Peers: 5000, Sources: 40,
		})
	}
	s.detail.Neighbours = nil
	for i := range 200 {
		s.detail.Neighbours = append(s.detail.Neighbours, daemon.Neighbour{Peer: fmt.Sprint("peer", i), Addr: fmt.Sprintf("10.0.0.%d:50002", i), Pieces: i * 5000})
	}
	s.change = func(s *sim) (changed []daemon.Row) {
		for i := range 50 {
			row := &s.rows[i*3]
			row.Done += 1 << 30
			row.Down, row.Up, row.ETA = r.Int64N(1<<30), r.Int64N(1<<30), r.Float64()*1000
			changed = append(changed, *row)
		}
		s.detail.Pieces = simPieces(1<<20, float64(s.rows[0].Done)/float64(1<<42), r)
		for i := range s.detail.Neighbours {
			s.detail.Neighbours[i].Down = r.Int64N(1 << 28)
		}
		return changed
	}
	return s
}
