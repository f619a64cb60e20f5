package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestTheSameSeedGivesTheSameSwarm(t *testing.T) {
	for _, name := range []string{"equal", "hostile", "killed"} {
		a, b := play(t, name, Sized{N: 12, Pieces: 64, Neighbours: 6}, 5), play(t, name, Sized{N: 12, Pieces: 64, Neighbours: 6}, 5)
		if a.Hash != b.Hash || a.Events != b.Events {
			t.Errorf("%s: two runs of one seed differ: %016x, %016x", name, a.Hash, b.Hash)
		}
		if c := play(t, name, Sized{N: 12, Pieces: 64, Neighbours: 6}, 6); c.Hash == a.Hash {
			t.Errorf("%s: two seeds give the same run", name)
		}
	}
}

func play(t *testing.T, name string, s Sized, seed uint64) Outcome {
	t.Helper()
	for _, sc := range Scenarios(s, seed) {
		if sc.Name == name {
			return sc.Play()
		}
	}
	t.Fatalf("there is no scenario %q", name)
	return Outcome{}
}

// The makespan of each scenario for 24 leechers and 256 pieces, as a ratio to what no scheme can beat; and everybody finishes.
func TestScenariosAreNearTheirBounds(t *testing.T) {
	most := map[string]float64{
		"equal": 1.06, "fastdown": 1.04, "slowhalf": 1.08, "slowone": 1.06, "killed": 1.06, "sourcegone": 1.06, "joins": 1.03, "hostile": 1.15,
		"far": 1.15, "two": 1.03, "limited": 1.02, "limitdown": 1.02, "sites": 1.02, "campus": 1.1,
	}
	for _, sc := range Scenarios(Sized{N: 24, Pieces: 256}, 3) {
		o := sc.Play()
		t.Logf("%s", sc.Row(o))
		if limit, known := most[sc.Name]; !known || o.Ratio > limit {
			t.Errorf("%s: %.3f times the bound, want at most %.2f", sc.Name, o.Ratio, limit)
		}
		if o.Unfinished > 0 {
			t.Errorf("%s: %d never finished", sc.Name, o.Unfinished)
		}
		if o.Copies > 1.1 && (sc.Name == "equal" || sc.Name == "fastdown") {
			t.Errorf("%s: the source sent %.2f copies", sc.Name, o.Copies)
		}
		if o.Crossed > 1.02 {
			t.Errorf("%s: %.3f copies cross", sc.Name, o.Crossed)
		}
	}
}

// The source that goes is gone long before the others are done: one that stays sends far more.
func TestASourceThatGoesIsGone(t *testing.T) {
	for _, sc := range Scenarios(Sized{N: 24, Pieces: 256}, 3) {
		if sc.Name != "sourcegone" {
			continue
		}
		if o := sc.Play(); o.Copies < 1.1 || o.Copies > 1.12 || o.Unfinished > 0 {
			t.Errorf("it has sent %.2f copies, and %d have not finished", o.Copies, o.Unfinished)
		}
		sc.Config.Peers[0].CrashCopies = 0
		if o := sc.Play(); o.Copies < 1.3 {
			t.Errorf("one that stays sends %.2f copies", o.Copies)
		}
	}
}

// Where each knows only some others, and half of all are slow, some have few neighbours that are fast: they end little later, for it is they who are served more often.
func TestWhoKnowsFewThatAreFastIsNotLast(t *testing.T) {
	o := play(t, "slowhalf", Sized{N: 100, Pieces: 128, Neighbours: 16}, 1)
	if o.Ratio > 1.16 || o.Ratio > 1.08*o.Median {
		t.Errorf("the last one is done at %.3f of the bound, the middle one at %.3f", o.Ratio, o.Median)
	}
}

// What half of all say comes a second late, since the queues before their slow uplinks are full: they are not left behind those that answer at once.
func TestWhoAnswersLateIsNotLeftBehind(t *testing.T) {
	for _, sc := range Scenarios(Sized{N: 24, Pieces: 512}, 1) {
		if sc.Name != "slowhalf" {
			continue
		}
		for i := 2; i < len(sc.Config.Peers); i += 2 {
			sc.Config.Peers[i].Late = time.Second
		}
		if o := sc.Play(); o.Ratio > 1.15 || o.Unfinished > 0 {
			t.Errorf("the last one is done at %.3f of the bound, the middle one at %.3f; %d have not finished", o.Ratio, o.Median, o.Unfinished)
		}
	}
}

// One slow peer costs the others little.
func TestASlowPeerHoldsTheOthersUpByLittle(t *testing.T) {
	for seed := range uint64(3) {
		with := play(t, "slowone", Sized{N: 24, Pieces: 256}, seed)
		without := play(t, "equal", Sized{N: 23, Pieces: 256}, seed)
		if with.Ratio > 1.05*without.Ratio {
			t.Errorf("seed %d: the others are done at %.3f of their bound with a slow one, at %.3f without it", seed, with.Ratio, without.Ratio)
		}
	}
}

// Whatever happens to whom: honest peers that live have everything in the end.
func TestEverybodyFinishes(t *testing.T) {
	for seed := range uint64(20) {
		chance := rand.New(rand.NewPCG(seed, 99))
		cfg := Config{
			Seed: seed, Pieces: 40 + chance.Uint32N(60), PieceSize: PieceSize, Contents: 1 + chance.IntN(2),
			Delay: time.Duration(chance.IntN(30)) * time.Millisecond, Limit: 20 * time.Minute, Sequential: chance.IntN(4) == 0,
		}
		if cfg.Contents == 1 {
			cfg.Neighbours = []int{0, 8}[chance.IntN(2)]
		}
		all := []int{0, 1}[:cfg.Contents]
		for i := range 2 {
			cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Seeds: all[i%len(all) : i%len(all)+1]})
		}
		for range 14 {
			p := Peer{Up: rate / (1 + 9*chance.Float64()), Down: rate / (1 + 3*chance.Float64()), Wants: all[:1+chance.IntN(len(all))]}
			p.Join = time.Duration(chance.Int64N(int64(5 * time.Second)))
			switch chance.IntN(6) {
			case 0:
				p.Behaviour = Liar
			case 1:
				p.Behaviour = Staller
			case 2:
				p.Crash = p.Join + time.Duration(chance.Int64N(int64(5*time.Second)))
				p.Restart = p.Crash + time.Duration(chance.Int64N(int64(5*time.Second)))
			case 3:
				p.Leaves = true
			}
			cfg.Peers = append(cfg.Peers, p)
		}
		if r := Run(cfg); r.Unfinished > 0 {
			t.Errorf("seed %d: %d of 14 never finished", seed, r.Unfinished)
		}
	}
}

// What the relaxation finds is what filling all links step by step finds.
func TestFlowsShareLinksMaxMinFairly(t *testing.T) {
	for seed := range uint64(200) {
		chance := rand.New(rand.NewPCG(seed, 1))
		w := &world{rand: chance, cfg: Config{PieceSize: 1 << 40, Parts: 1}}
		w.net.w = w
		source := &peer{parts: []*part{{seed: true}}}
		var links []*link
		for range 6 {
			links = append(links, &link{rate: 1 + 9*chance.Float64(), level: math.Inf(1)})
		}
		var flows []*flow
		for range 1 + chance.IntN(12) {
			a := chance.IntN(6)
			f := &flow{from: source, links: []*link{links[a], links[(a+1+chance.IntN(5))%6]}}
			flows = append(flows, f)
			w.net.send(f, &request{size: 1 << 40})
		}
		if chance.IntN(2) == 0 && len(flows) > 1 {
			w.net.stop(flows[0])
			flows = flows[1:]
		}
		want := fill(links, flows)
		for i, f := range flows {
			if math.Abs(f.rate-want[i]) > 1e-3*want[i] {
				t.Fatalf("seed %d: flow %d has %.4f, want %.4f", seed, i, f.rate, want[i])
			}
		}
	}
}

// fill raises all flows together until each is stopped by a full link.
func fill(links []*link, flows []*flow) []float64 {
	rates, fixed := make([]float64, len(flows)), make([]bool, len(flows))
	for slices.Contains(fixed, false) {
		least, full := math.Inf(1), (*link)(nil)
		for _, l := range links {
			rest, open := l.rate, 0
			for i, f := range flows {
				if !slices.Contains(f.links, l) {
					continue
				}
				if fixed[i] {
					rest -= rates[i]
				} else {
					open++
				}
			}
			if open > 0 && rest/float64(open) < least {
				least, full = rest/float64(open), l
			}
		}
		for i, f := range flows {
			if !fixed[i] && slices.Contains(f.links, full) {
				rates[i], fixed[i] = least, true
			}
		}
	}
	return rates
}

// A limit is kept by the schedule alone, where the links would carry twice as much; and where they carry no more than it, as when a program
// sends no faster than its limit, it takes nothing from what they carry.
func TestLimitsAreKeptAndUsed(t *testing.T) {
	for _, c := range []struct {
		name     string
		up, down float64 // links
	}{{"limited", rate, rate}, {"limited", rate / 2, rate}, {"limitdown", rate, rate}, {"limitdown", 4 * rate, 4 * rate}} {
		for _, sc := range Scenarios(Sized{N: 12, Pieces: 256}, 2) {
			if sc.Name != c.name {
				continue
			}
			for i := range sc.Config.Peers {
				sc.Config.Peers[i].Up, sc.Config.Peers[i].Down = c.up, c.down
			}
			o := sc.Play()
			// At the start of all there is a burst: six pieces of 256.
			if o.Ratio < 0.97 || o.Ratio > 1.1 || o.Waste > 0.02 || o.Unfinished > 0 {
				t.Errorf("links of %.0f and %.0f: %s", c.up, c.down, sc.Row(o))
			}
		}
	}
}

func TestTheBoundIsWhatTheFormulaSays(t *testing.T) {
	at := func(up, down float64, n int) time.Duration {
		cfg := Config{Pieces: 100, PieceSize: 1000, Peers: []Peer{{Up: 1000, Down: 1000, Seeds: []int{0}}}}
		for range n {
			cfg.Peers = append(cfg.Peers, Peer{Up: up, Down: down, Wants: []int{0}})
		}
		return Bound(cfg).Round(time.Millisecond)
	}
	for _, c := range []struct {
		what     string
		up, down float64
		n        int
		want     time.Duration
	}{
		{"the source's uplink", 1000, 4000, 5, 100 * time.Second},
		{"the slowest downlink", 1000, 500, 5, 200 * time.Second},
		{"all uplinks together", 100, 4000, 10, 500 * time.Second},
	} {
		if got := at(c.up, c.down, c.n); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
