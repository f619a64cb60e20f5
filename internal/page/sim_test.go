package page_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"shoal/internal/daemon"
	"shoal/internal/identity"
	"shoal/internal/node"
)

// sim is a peer that only pretends, behind the real API: what it shows is always the same, or changes four times a second.
type sim struct {
	rows   []daemon.Row
	detail daemon.Detail // of the first
	stats  daemon.Stats
	change func(s *sim) []daemon.Row // nil: nothing changes
	every  time.Duration             // 0: a quarter of a second
	step   int

	mu     sync.Mutex // guards all
	number uint64
	subs   map[*daemon.Subscription]bool
}

var errSim = errors.New("a simulated peer does not do that")

// Run publishes figures, and what changes.
func (s *sim) Run(ctx context.Context) error {
	every := s.every
	if every == 0 {
		every = 250 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			s.mu.Lock()
			for sub := range s.subs {
				close(sub.C)
			}
			s.subs = nil
			s.mu.Unlock()
			return nil
		case <-tick.C:
		}
		s.mu.Lock()
		if s.change != nil {
			for _, r := range s.change(s) {
				s.publish("transfer", r)
			}
		}
		s.publish("stats", s.stats)
		s.step++
		s.mu.Unlock()
	}
}

// steps is how often it has changed.
func (s *sim) steps() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step
}

func (s *sim) publish(kind string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	s.number++
	for sub := range s.subs {
		select {
		case sub.C <- daemon.Event{Number: s.number, Type: kind, Data: b}:
		default:
			delete(s.subs, sub)
			close(sub.C)
		}
	}
}

func (s *sim) Subscribe(context.Context, uint64, bool) (*daemon.Subscription, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs == nil {
		s.subs = make(map[*daemon.Subscription]bool)
	}
	sub := &daemon.Subscription{First: s.number, C: make(chan daemon.Event, 4096), Whole: &daemon.Snapshot{Stats: s.stats, Transfers: append([]daemon.Row{}, s.rows...), Log: []daemon.Line{}}}
	s.subs[sub] = true
	return sub, nil
}

func (s *sim) Unsubscribe(sub *daemon.Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[sub] {
		delete(s.subs, sub)
		close(sub.C)
	}
}

func (s *sim) Detail(_ context.Context, id string) (daemon.Detail, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.rows {
		if r.ID == id && i > 0 {
			return daemon.Detail{Row: r, Neighbours: []daemon.Neighbour{}, Speed: daemon.Speed{Down: []int64{}, Up: []int64{}}, Log: []daemon.Line{}}, nil
		}
	}
	d := s.detail
	d.Row = s.rows[0]
	return d, nil
}

func (s *sim) List(context.Context, int, int) ([]daemon.Row, int, error) {
	return s.rows, len(s.rows), nil
}

func (s *sim) Stats(_ context.Context, speed bool) (daemon.Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	if speed {
		st.Speed = &s.detail.Speed
	}
	return st, nil
}

func (s *sim) Ready() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (s *sim) Log(context.Context) ([]daemon.Line, error) { return []daemon.Line{}, nil }
func (s *sim) AddDownload(context.Context, daemon.DownloadRequest) (daemon.Row, error) {
	return daemon.Row{}, errSim
}

func (s *sim) AddShare(context.Context, daemon.ShareRequest) (daemon.Row, error) {
	return daemon.Row{}, errSim
}

func (s *sim) InSwarm(context.Context, string, func(context.Context, *node.Member) error) error {
	return errSim
}

func (s *sim) Join(context.Context, identity.Link) (daemon.SwarmRow, error) {
	return daemon.SwarmRow{}, errSim
}
func (s *sim) Link(context.Context, string, string) (string, error) { return "", errSim }
func (s *sim) Pause(context.Context, string) (daemon.Row, error)    { return daemon.Row{}, errSim }
func (s *sim) Resume(context.Context, string) (daemon.Row, error)   { return daemon.Row{}, errSim }
func (s *sim) Remove(context.Context, string, bool) error           { return errSim }
func (s *sim) SetLimits(context.Context, *daemon.Limits) error      { return errSim }

// simPieces is a content of which some part is here, as a download leaves it that takes what is rare first.
func simPieces(count int, share float64, r *rand.Rand) *daemon.Pieces {
	p := &daemon.Pieces{Count: count, Size: 4 << 20, Columns: min(count, 2048)}
	for range p.Columns {
		percent := 0
		switch v := r.Float64(); {
		case v < share*0.8:
			percent = 100
		case v < share*1.2:
			percent = 10 + r.IntN(80)
		}
		p.Have = append(p.Have, [2]int{1, percent})
		under, rarest := 0, -1
		if percent < 100 {
			if rarest = 3 + r.IntN(5); r.Float64() < 0.02 {
				rarest = 1
			}
			if r.Float64() < 0.03 {
				under = 1
			}
		}
		p.Under, p.Rarest = append(p.Under, [2]int{1, under}), append(p.Rarest, [2]int{1, rarest})
	}
	return p
}

// simSpeed is five minutes of a download.
func simSpeed(r *rand.Rand, down, up float64) (s daemon.Speed) {
	d, u := 0.0, 0.0
	for range 300 {
		d += (down*(0.6+0.8*r.Float64()) - d) * 0.15
		u += (up*(0.5+r.Float64()) - u) * 0.1
		s.Down, s.Up = append(s.Down, int64(d)), append(s.Up, int64(u))
	}
	return s
}

// lookingPeer is a peer with a little of everything.
func lookingPeer() *sim {
	r := rand.New(rand.NewPCG(1, 2))
	at := time.Date(2026, 11, 22, 19, 30, 0, 0, time.UTC)
	const gib = int64(1) << 30
	row := func(id, name string, kind daemon.Kind, state daemon.State, size, done int64) daemon.Row {
		return daemon.Row{
			ID: id, Name: name, Kind: kind, State: state, Size: size, Done: done, Swarm: "k7f3wq2m", Added: at, Path: "/srv/images/" + name,
			Content: "8f14e45fceea167a5a36dedd4bea2543f8a1b0c7d6e59483726150ab9cde4f01",
		}
	}
	s := &sim{rows: []daemon.Row{
		row("a", "ubuntu-lab.img", daemon.Download, daemon.Downloading, 64*gib, 26*gib+gib/5),
		row("b", "cuda-12.tar", daemon.Share, daemon.Seeding, 4*gib+gib/10, 4*gib+gib/10),
		row("c", "render-assets-2026-11.tar.zst", daemon.Share, daemon.Hashing, 212*gib, 0),
		row("d", "weather-reanalysis-1979-2025-hourly-surface-temperature-and-pressure.nc", daemon.Download, daemon.Paused, 900*gib, 411*gib),
		row("e", "model.safetensors", daemon.Download, daemon.Complete, 13*gib, 13*gib),
		row("f", "old.iso", daemon.Download, daemon.Failed, 700<<20, 12<<20),
		row("g", "مختبر.img", daemon.Download, daemon.Waiting, 0, 0),
	}}
	a := &s.rows[0]
	a.Down, a.Up, a.ETA, a.Sources, a.Peers, a.Arriving, a.Given = 1_159_641_170, 671_088_640, 35, 7, 12, 48<<20, 2
	s.rows[1].Up, s.rows[1].Peers = 92_274_688, 5
	s.rows[2].Checked = 88 * gib
	s.rows[3].Paused = true
	s.rows[5].Failure = &daemon.Failure{
		Code: "E-NO-SPACE", Exit: 7, What: "old.iso needs 700 MiB, /srv has 512 MiB free", Cause: "1.0 GiB of the disk is kept in reserve", Next: "free 188 MiB, then  shoal resume old.iso",
	}
	s.detail = daemon.Detail{Pieces: simPieces(16384, 0.41, r), Speed: simSpeed(r, 1.1e9, 6e8), Log: []daemon.Line{
		{Time: at, Text: `download of "ubuntu-lab.img" added`}, {Time: at.Add(2 * time.Second), Text: "10.0.0.33 sent wrong data for piece 1021: it is cut off for ten minutes"},
	}}
	for i := range 12 {
		n := daemon.Neighbour{Peer: fmt.Sprintf("k7f%dq", i), Addr: fmt.Sprintf("10.0.0.%d:50002", 21+i), Pieces: 16384 - 1300*i, Down: int64(212-17*i) << 20, Up: int64(96-7*i) << 20, RTT: float64(3+5*i) / 10_000}
		s.detail.Neighbours = append(s.detail.Neighbours, n)
	}
	s.stats = daemon.Stats{
		Name: "lab-1", Version: "1.0.0", Started: at, Down: a.Down, Up: a.Up + s.rows[1].Up, States: map[daemon.State]int{},
		Swarms: []daemon.SwarmRow{{ID: "k7f3wq2m", Servers: []string{"10.0.0.5:50001"}, State: "connected", Sessions: 41, Serving: true}},
	}
	return s
}

// simulate serves the page of a simulated peer.
func simulate(t testing.TB, s *sim) *peer {
	p := newPeer(t)
	ln := listen(t, "")
	p.addr = ln.Addr().String()
	p.serve(ln, s, s.Run)
	return p
}
