//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

var soakStage = stage{
	name: "soak", minutes: 24,
	does: "24 long-running peers in network namespaces, who share and fetch files all the time, under random faults",
	run:  runSoak, figures: soakFigures,
}

const (
	soakPeers = 24
	// restTime is how long nothing happens before the first and the last look at what peers hold.
	restTime = 40 * time.Second
	// healTime is how long a transfer may take when the faults are over.
	healTime = 90 * time.Second
	// rounds go on at once: in each, a peer shares a new file, and some others fetch it.
	soakRounds = 2
)

// soak is the swarm under faults.
type soak struct {
	w      *work
	path   string
	hub    *machine
	server *machine
	peers  []*machine
	number chan int // of the next file
}

// runSoak lets peers work for as long as it may. Half of the peers are killed now and then; what leaks is looked for in the others, which live
// from the beginning to the end, and suffer everything else.
func runSoak(ctx context.Context, w *work) error {
	if os.Geteuid() != 0 {
		return errors.New("only root may make network namespaces")
	}
	path, err := lab.Build(ctx, w.dir)
	if err != nil {
		return err
	}
	s := &soak{w: w, path: path, number: make(chan int, 1)}
	s.number <- 0
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	chance := rand.New(rand.NewPCG(w.seed, 1))
	// What is made once is there from now on: all have met all, and shared and fetched.
	for range 2 {
		if err := s.round(ctx, chance, len(s.peers), healTime); err != nil {
			return err
		}
	}
	before, err := s.look(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.storm(ctx, w.limit-time.Since(w.start)-healTime-restTime-20*time.Second); err != nil {
		return err
	}
	after, err := s.look(ctx)
	if err != nil {
		return err
	}
	w.count("minutes under faults", time.Since(began).Minutes())
	for i, m := range s.peers {
		if m.mortal {
			continue
		}
		w.worst("descriptors more than before", float64(after[i].fds-before[i].fds))
		w.worst("goroutines more than before", float64(after[i].goroutines-before[i].goroutines))
		w.worst("MiB more than before", float64(after[i].rss-before[i].rss)/(1<<20))
		w.worst("MiB in the end", float64(after[i].rss)/(1<<20))
	}
	return nil
}

func (s *soak) open(ctx context.Context) (err error) {
	if s.hub, err = newMachine(ctx, s.w.dir, 200); err != nil {
		return err
	}
	if err := s.hub.sh(ctx, quiet, "ip link add hub type bridge mcast_snooping 0", "ip link set hub up"); err != nil {
		return err
	}
	if s.server, err = newMachine(ctx, s.w.dir, 100); err != nil {
		return err
	}
	if err := s.server.plug(ctx, s.hub); err != nil {
		return err
	}
	e, err := s.server.run(ctx, s.path, "listening", "server", "--listen", s.server.addr()+":50001")
	if err != nil {
		return err
	}
	for i := range soakPeers {
		m, err := newMachine(ctx, s.w.dir, i)
		if err != nil {
			return err
		}
		s.peers = append(s.peers, m)
		m.mortal = i%2 == 1
		if err := m.plug(ctx, s.hub); err != nil {
			return err
		}
		join := append(m.within(), s.path, "join", e.Link, "--state", m.state)
		if out, err := exec.CommandContext(ctx, join[0], join[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("join: %w: %s", err, out)
		}
		if _, err := m.run(ctx, s.path, "running", "peer", "--web", "", "--server-listen", "", "--listen", m.addr()+":50002"); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) close() {
	for _, m := range append(s.peers, s.server, s.hub) {
		if m != nil {
			m.close()
		}
	}
}

// look waits until nothing happens any more, and returns what all peers hold.
func (s *soak) look(ctx context.Context) ([]vitals, error) {
	if err := lab.Sleep(ctx, restTime); err != nil {
		return nil, err
	}
	out := make([]vitals, len(s.peers))
	for i, m := range s.peers {
		for try := range 5 { // the least of some looks: connections come and go
			v, err := m.vitals(ctx)
			if err != nil {
				return nil, err
			}
			if try == 0 || v.goroutines+v.fds < out[i].goroutines+out[i].fds {
				out[i] = v
			}
			if err := lab.Sleep(ctx, 100*time.Millisecond); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// storm lets rounds and faults go on for a time, and then the last rounds come to their end in peace.
func (s *soak) storm(ctx context.Context, d time.Duration) error {
	var wg sync.WaitGroup
	calm := time.Now().Add(d)
	faulty, cancel := context.WithDeadline(ctx, calm)
	defer cancel()
	for i := range 2 {
		wg.Go(func() { s.faults(ctx, faulty, rand.New(rand.NewPCG(s.w.seed, uint64(100+i))), i) })
	}
	errs := make([]error, soakRounds)
	for i := range soakRounds {
		wg.Go(func() {
			chance := rand.New(rand.NewPCG(s.w.seed, uint64(200+i)))
			for faulty.Err() == nil && errs[i] == nil {
				errs[i] = s.round(ctx, chance, 3+chance.IntN(8), time.Until(calm)+healTime)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// round lets a peer share a new file, and others fetch it, so many with it, until all have it; then it is taken away again.
func (s *soak) round(ctx context.Context, chance *rand.Rand, many int, patience time.Duration) error {
	number := <-s.number
	s.number <- number + 1
	who := chance.Perm(len(s.peers))[:many]
	source, name := s.peers[who[0]], fmt.Sprintf("file%d.img", number)
	want := make([]byte, 1<<20+chance.IntN(6<<20))
	stream := rand.NewChaCha8([32]byte{byte(number), byte(number >> 8), byte(number >> 16), 1})
	_, _ = stream.Read(want)
	path := filepath.Join(source.dir, name)
	if err := os.WriteFile(path, want, 0o644); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var shared row
	if err := source.insist(within, "POST", "/api/v1/shares", map[string]any{"path": path}, &shared); err != nil {
		return s.unless(ctx, "%s is not shared by %d: %v", name, source.number, err)
	}
	gets := make(map[*machine]row)
	for _, i := range who[1:] {
		var r row
		body := map[string]any{"what": name, "dir": s.peers[i].dir, "wait": true}
		if err := s.peers[i].insist(within, "POST", "/api/v1/downloads", body, &r); err != nil {
			return s.unless(ctx, "%s is not taken on by %d: %v", name, s.peers[i].number, err)
		}
		gets[s.peers[i]] = r
	}
	for m, r := range gets {
		if err := s.await(within, m, r.ID); err != nil {
			return s.unless(ctx, "%s does not come to %d: %v", name, m.number, err)
		}
		if got, err := os.ReadFile(filepath.Join(m.dir, name)); err != nil || !bytes.Equal(got, want) {
			s.w.fail("%s is wrong at %d: %d bytes (%v)", name, m.number, len(got), err)
		}
		s.w.count("files that came", 1)
	}
	gets[source] = shared
	for m, r := range gets {
		if err := m.insist(within, "DELETE", "/api/v1/transfers/"+r.ID, nil, nil); err != nil {
			return s.unless(ctx, "%s is not removed at %d: %v", name, m.number, err)
		}
		if err := os.Remove(filepath.Join(m.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// unless notes a failure, unless all is over. The soak goes on.
func (s *soak) unless(ctx context.Context, format string, args ...any) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.w.fail(format, args...)
	return nil
}

// await waits until a transfer is complete.
func (s *soak) await(ctx context.Context, m *machine, id string) error {
	for {
		var r row
		err := m.call(ctx, "GET", "/api/v1/transfers/"+id, nil, &r)
		switch {
		case err == nil && r.State == "complete":
			return nil
		case err == nil && r.State == "failed":
			return fmt.Errorf("it has failed: %+v", r.Failure)
		}
		if lab.Sleep(ctx, 300*time.Millisecond) != nil {
			return fmt.Errorf("it is %s (%v)", r.State, err)
		}
	}
}

// fault is something that goes wrong for a while, and is mended.
type fault struct {
	name string
	does func(s *soak, ctx context.Context, m *machine, chance *rand.Rand) (mend func() error, err error)
}

var faults = []fault{
	{"stopped", func(_ *soak, _ context.Context, m *machine, _ *rand.Rand) (func() error, error) {
		m.signal(syscall.SIGSTOP)
		return func() error { m.signal(syscall.SIGCONT); return nil }, nil
	}},
	{"cable pulled", func(s *soak, ctx context.Context, m *machine, _ *rand.Rand) (func() error, error) {
		port := fmt.Sprintf("ip link set port%d ", m.number)
		return func() error { return s.hub.sh(ctx, port+"up") }, s.hub.sh(ctx, port+"down")
	}},
	{"slow uplink", func(_ *soak, ctx context.Context, m *machine, chance *rand.Rand) (func() error, error) {
		return func() error { return m.sh(ctx, "tc qdisc del dev eth0 root") },
			m.sh(ctx, fmt.Sprintf("tc qdisc add dev eth0 root tbf rate %dkbit burst 16kb latency 200ms", 500+chance.IntN(8000)))
	}},
	{"cut off from another", func(s *soak, ctx context.Context, m *machine, chance *rand.Rand) (func() error, error) {
		route := " blackhole " + s.peers[chance.IntN(len(s.peers))].addr() + "/32"
		return func() error { return m.sh(ctx, "ip route del"+route) }, m.sh(ctx, "ip route replace"+route)
	}},
	{"killed", func(s *soak, ctx context.Context, m *machine, _ *rand.Rand) (func() error, error) {
		if !m.mortal {
			return nil, nil
		}
		m.process().Kill()
		return func() error { _, err := m.run(ctx, s.path, "running"); return err }, nil
	}},
	{"server killed", func(s *soak, ctx context.Context, _ *machine, _ *rand.Rand) (func() error, error) {
		s.server.process().Kill()
		return func() error { _, err := s.server.run(ctx, s.path, "listening"); return err }, nil
	}},
}

// faults lets one thing after the other go wrong, until faulty ends. The two who do so have half of the peers each, and only the first has the server.
func (s *soak) faults(ctx, faulty context.Context, chance *rand.Rand, half int) {
	for lab.Sleep(faulty, time.Duration(chance.Int64N(int64(2*time.Second)))) == nil {
		f := faults[chance.IntN(len(faults)-half)]
		m := s.peers[half*soakPeers/2+chance.IntN(soakPeers/2)]
		mend, err := f.does(s, ctx, m, chance)
		if mend == nil {
			continue
		}
		_ = lab.Sleep(faulty, time.Duration(chance.Int64N(int64(6*time.Second))))
		if err = errors.Join(err, mend()); err != nil && ctx.Err() == nil {
			s.w.fail("%s: %v", f.name, err)
			return
		}
		s.w.count("faults: "+f.name, 1)
	}
}

func soakFigures(t totals) []figure {
	minutes := atLeast("G22", fmt.Sprintf("minutes of %d peers under faults", soakPeers), t.counts["minutes under faults"], 20)
	came := figure{Goal: "G22", What: "files that came, all of them whole", Value: number(t.counts["files that came"]), Minimum: "all", Met: t.failures == 0 && t.counts["files that came"] > 0}
	out := []figure{minutes, came}
	for _, what := range []string{"descriptors", "goroutines"} {
		more, known := t.worst[what+" more than before"]
		f := none("G22", what+" more than before, the peer with the most", more)
		f.Met = known && more <= 0
		out = append(out, f)
	}
	rss := figure{
		Goal: "G22", What: "memory more than before, the peer with the most, MiB", Value: fmt.Sprintf("%.1f of %.1f", t.worst["MiB more than before"], t.worst["MiB in the end"]),
		Minimum: "a slope below 1 MiB a day", Reason: "twenty minutes do not tell a day's slope",
	}
	return append(out, rss)
}
