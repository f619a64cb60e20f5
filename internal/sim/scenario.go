package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// rate is the unit of the scenarios' links: 25 Mbit/s, in bytes per second.
const rate = 25e6 / 8

// PieceSize is that of all scenarios.
const PieceSize = 128 << 10

// Scenario is a swarm with a name, and the time that no scheme can beat in it.
type Scenario struct {
	Name   string
	Config Config
	Bound  time.Duration
	// Judge is whose times count: all honest ones where it is nil.
	Judge func(peer int) bool
	Note  string
}

// Sized is the size of a swarm: leechers, pieces, neighbours that each connects to (0: everybody), and the parts of a piece (0: as in the program).
type Sized struct {
	N          int
	Pieces     uint32
	Neighbours int
	Parts      int64
}

// Scenarios returns those of docs/SCHEDULING.md for a size and a seed.
func Scenarios(s Sized, seed uint64) []Scenario {
	f := float64(s.Pieces) * PieceSize
	base := func() Config {
		cfg := Config{Seed: seed, Pieces: s.Pieces, PieceSize: PieceSize, Delay: 500 * time.Microsecond, Neighbours: s.Neighbours, Parts: s.Parts}
		cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Seeds: []int{0}})
		for range s.N {
			cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Wants: []int{0}})
		}
		return cfg
	}
	half := seconds(f / rate / 2)
	var out []Scenario
	add := func(name, note string, change func(cfg *Config) (judge func(int) bool, bound time.Duration)) {
		cfg := base()
		judge, bound := change(&cfg)
		if bound == 0 {
			bound = Bound(cfg)
		}
		out = append(out, Scenario{Name: name, Config: cfg, Bound: bound, Judge: judge, Note: note})
	}
	add("equal", "", func(*Config) (func(int) bool, time.Duration) { return nil, 0 })
	add("fastdown", "downlinks four times the uplinks", func(cfg *Config) (func(int) bool, time.Duration) {
		for i := range cfg.Peers {
			cfg.Peers[i].Down = 4 * rate
		}
		return nil, 0
	})
	add("slowhalf", "half the uplinks ten times slower", func(cfg *Config) (func(int) bool, time.Duration) {
		for i := 2; i < len(cfg.Peers); i += 2 {
			cfg.Peers[i].Up = rate / 10
		}
		return nil, 0
	})
	add("slowone", "one peer at a hundredth; the bound is the others' without it", func(cfg *Config) (func(int) bool, time.Duration) {
		without := *cfg
		without.Peers = without.Peers[:s.N]
		cfg.Peers[s.N].Up, cfg.Peers[s.N].Down = rate/100, rate/100
		cfg.Peers[s.N].Crash = 20 * half // it would take a hundred times as long as the others
		return func(p int) bool { return p != s.N }, Bound(without)
	})
	add("killed", "a third is killed at half time, and back 5 s later", func(cfg *Config) (func(int) bool, time.Duration) {
		for i := 1; i <= s.N/3; i++ {
			cfg.Peers[i].Crash, cfg.Peers[i].Restart = half, half+5*time.Second
		}
		return nil, 0
	})
	add("sourcegone", "a source with twice the uplink leaves after 1.1 copies", func(cfg *Config) (func(int) bool, time.Duration) {
		cfg.Peers[0].Up, cfg.Peers[0].CrashCopies = 2*rate, 1.1 // with the others' it would not have sent so much in the end
		return nil, 0
	})
	add("joins", "joins spread over the bound of equal links", func(cfg *Config) (func(int) bool, time.Duration) {
		for i := 1; i <= s.N; i++ {
			cfg.Peers[i].Join = 2 * half * time.Duration(i-1) / time.Duration(s.N)
		}
		return nil, 0
	})
	add("hostile", "10 % send bad pieces, 10 % stall; all of them fetch", func(cfg *Config) (func(int) bool, time.Duration) {
		chance := rand.New(rand.NewPCG(seed, 7))
		for i, at := range chance.Perm(s.N)[:s.N/10*2] {
			cfg.Peers[1+at].Behaviour = Liar + Behaviour(i%2)
		}
		return nil, 0
	})
	add("limited", "uplinks limited to half of what they carry, by the schedule alone", func(cfg *Config) (func(int) bool, time.Duration) {
		for i := range cfg.Peers {
			cfg.Peers[i].LimitUp = rate / 2
		}
		return nil, 0
	})
	add("limitdown", "downlinks limited so", func(cfg *Config) (func(int) bool, time.Duration) {
		for i := range cfg.Peers {
			cfg.Peers[i].LimitDown = rate / 2
		}
		return nil, 0
	})
	add("far", "50 ms of delay between all", func(cfg *Config) (func(int) bool, time.Duration) {
		cfg.Delay = 50 * time.Millisecond
		return nil, 0
	})
	add("two", "two contents, half of the leechers each", func(cfg *Config) (func(int) bool, time.Duration) {
		cfg.Contents = 2
		cfg.Peers[0].Seeds = []int{0, 1}
		for i := 2; i < len(cfg.Peers); i += 2 {
			cfg.Peers[i].Wants = []int{1}
		}
		return nil, seconds(2 * f / rate)
	})
	add("sites", "two sites, the link between them a tenth as fast as a peer's", sites(s.N, rate/10, f))
	add("campus", "two sites, the link between them a tenth as fast as those of one site together", sites(s.N, rate*float64(s.N)/20, f))
	return out
}

// sites puts half of the leechers into another site than the source, behind a link.
func sites(n int, between, f float64) func(*Config) (func(int) bool, time.Duration) {
	return func(cfg *Config) (func(int) bool, time.Duration) {
		for i := range cfg.Peers {
			cfg.Peers[i].Site = 1 + 2*i/(n+2)
		}
		cfg.Between = between
		return nil, max(Bound(*cfg), seconds(f/between))
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// Bound returns the time that no scheme can beat: T* = max(F/u_s, F/d_min, N*F/(u_s + sum u_i)), where a leecher that comes later, or is
// away for a while, neither takes nor gives in that time, and hostile ones take and do not give. It is for one content.
func Bound(cfg Config) time.Duration {
	cfg.Peers = slices.Clone(cfg.Peers)
	for i := range cfg.Peers {
		p := &cfg.Peers[i]
		p.Up, p.Down = limited(p.Up, p.LimitUp), limited(p.Down, p.LimitDown)
	}
	f := float64(cfg.Pieces) * float64(cfg.PieceSize)
	least, fastest := 0.0, 0.0
	n := 0
	for _, p := range cfg.Peers {
		if len(p.Seeds) > 0 {
			fastest += p.Up
		}
		if len(p.Wants) == 0 || (p.Crash > 0 && p.Restart == 0) {
			continue
		}
		if n++; p.Behaviour != Honest {
			continue
		}
		least = max(least, p.Join.Seconds()+f/p.Down)
		if p.Restart > 0 {
			least = max(least, f/p.Down+p.Restart.Seconds()-p.Crash.Seconds())
		}
	}
	least = max(least, f/fastest)
	// The first moment at which all that could have been sent by then is enough.
	enough := func(t float64) bool {
		sum := 0.0
		for _, p := range cfg.Peers {
			if p.Behaviour != Honest {
				continue
			}
			online := t - p.Join.Seconds()
			if p.Crash > 0 {
				away := math.Inf(1)
				if p.Restart > 0 {
					away = p.Restart.Seconds()
				}
				online -= max(0, min(t, away)-p.Crash.Seconds())
			}
			could := p.Up * max(0, online)
			if p.CrashCopies > 0 {
				could = min(could, p.CrashCopies*f)
			}
			sum += could
		}
		return sum >= float64(n)*f
	}
	low, high := 0.0, 1.0
	for !enough(high) && high < 1e9 {
		high *= 2
	}
	for range 60 {
		if mid := (low + high) / 2; enough(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return seconds(max(least, high))
}

// limited returns what a link carries when it is limited.
func limited(rate, limit float64) float64 {
	if limit > 0 {
		return min(rate, limit)
	}
	return rate
}

// Outcome is what a scenario gave.
type Outcome struct {
	Result
	Ratio, Median float64 // of the last and the middle one's time to the bound
	Copies        float64 // sent by the source
	Waste         float64 // part of what was wanted
	Crossed       float64 // copies that went from one site to another
}

// Play runs a scenario.
func (s Scenario) Play() Outcome {
	r := Run(s.Config)
	f := float64(s.Config.Pieces) * float64(s.Config.PieceSize)
	var times []time.Duration
	wanted := 0.0
	for i, p := range s.Config.Peers {
		if p.Behaviour == Honest && len(p.Wants) > 0 && (s.Judge == nil || s.Judge(i)) {
			wanted += f
			if r.Done[i] > 0 {
				times = append(times, r.Done[i])
			}
		}
	}
	slices.Sort(times)
	o := Outcome{Result: r, Copies: float64(r.Sent[0]) / f, Waste: float64(r.Wasted) / wanted, Crossed: float64(r.Crossed) / f}
	if len(times) > 0 {
		o.Ratio = times[len(times)-1].Seconds() / s.Bound.Seconds()
		o.Median = times[len(times)/2].Seconds() / s.Bound.Seconds()
	}
	return o
}

// Header is the head of a table of rows.
const Header = "| scenario | N | pieces | makespan / bound | median / bound | copies of the source | wasted | unfinished | hash | |\n" +
	"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"

// Row is an outcome as a line of a table.
func (s Scenario) Row(o Outcome) string {
	note := s.Note
	if o.Crossed > 0 {
		note += fmt.Sprintf("; %.3f copies cross", o.Crossed)
	}
	return fmt.Sprintf("| %s | %d | %d | %.3f | %.3f | %.2f | %.1f %% | %d | %016x | %s |", s.Name, len(s.Config.Peers)-1, s.Config.Pieces, o.Ratio, o.Median,
		o.Copies, 100*o.Waste, o.Unfinished, o.Hash, note)
}
