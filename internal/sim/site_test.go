package sim

import (
	"slices"
	"testing"
	"time"
)

// twoSites is a source and half of the leechers in one site, the others in another, behind a link a tenth as fast as a peer's.
func twoSites(n int, pieces uint32, seed uint64) Config {
	cfg := Config{Seed: seed, Pieces: pieces, PieceSize: PieceSize, Delay: 500 * time.Microsecond, Between: rate / 10}
	cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Seeds: []int{0}, Site: 1})
	for i := range n {
		cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Wants: []int{0}, Site: 1 + 2*i/n})
	}
	return cfg
}

// first returns those that rank first in a site.
func first(cfg Config, site, n int) []int {
	var who []int
	for i, p := range cfg.Peers {
		if p.Site == site && len(p.Wants) > 0 {
			who = append(who, i)
		}
	}
	w := &world{cfg: cfg}
	rank := func(i int) uint64 { return (&peer{w: w, id: i}).rank(0) }
	slices.SortFunc(who, func(a, b int) int {
		if rank(a) > rank(b) {
			return -1
		}
		return 1
	})
	return who[:n]
}

func crossed(cfg Config, r Result) float64 {
	return float64(r.Crossed) / float64(cfg.Pieces) / float64(cfg.PieceSize)
}

func TestBetweenSitesEachPieceCrossesOnce(t *testing.T) {
	for seed := range uint64(20) {
		cfg := twoSites(12, 64, seed)
		if seed%4 == 3 {
			cfg.Between = rate * 5 // so that the link is not what limits them
		}
		cfg.Sequential = seed%5 == 4
		r := Run(cfg)
		if c := crossed(cfg, r); c > 1.02 || r.Unfinished > 0 {
			t.Errorf("seed %d: %.3f copies cross, %d never finished", seed, c, r.Unfinished)
		}
	}
}

// The fetchers of a site may vanish, at any time and all at once: others take over.
func TestWhenTheFetchersOfASiteDieOthersTakeOver(t *testing.T) {
	for seed := range uint64(8) {
		cfg := twoSites(16, 64, seed)
		alone := Run(cfg).Makespan
		for _, i := range first(cfg, 2, 4) {
			cfg.Peers[i].Crash = time.Duration(seed+1) * alone / 10
		}
		r := Run(cfg)
		if c := crossed(cfg, r); c > 1.25 || r.Unfinished > 0 || r.Makespan > alone*5/4 {
			t.Errorf("seed %d: %.3f copies cross, %d never finished, after %v instead of %v", seed, c, r.Unfinished, r.Makespan, alone)
		}
	}
}

// Fetchers that take pieces and give none of them, and claim what they do not bring: what they have counts for nothing.
func TestFetchersThatPassNothingOnHoldTheirSiteUpByLittle(t *testing.T) {
	for seed := range uint64(8) {
		cfg := twoSites(16, 64, seed)
		alone := Run(cfg).Makespan
		for i, who := range first(cfg, 2, 4) {
			if i%2 == int(seed%2) {
				cfg.Peers[who].Behaviour = Staller
			}
		}
		r := Run(cfg)
		if c := crossed(cfg, r); c > 1.8 || r.Unfinished > 0 || r.Makespan > 2*alone {
			t.Errorf("seed %d: %.3f copies cross, %d never finished, after %v instead of %v", seed, c, r.Unfinished, r.Makespan, alone)
		}
	}
}

// One inside says that it has everything, and gives nothing.
func TestWhoSaysToHaveEverythingInsideDoesNotKeepItsSiteFromFetching(t *testing.T) {
	for seed := range uint64(8) {
		cfg := twoSites(16, 64, seed)
		alone := Run(cfg).Makespan
		cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Seeds: []int{0}, Site: 2, Behaviour: Staller})
		r := Run(cfg)
		if c := crossed(cfg, r); c > 1.1 || r.Unfinished > 0 || r.Makespan > alone+10*time.Second {
			t.Errorf("seed %d: %.3f copies cross, %d never finished, after %v instead of %v", seed, c, r.Unfinished, r.Makespan, alone)
		}
	}
}

// A fetcher whose links are slow holds its site up by little.
func TestASlowFetcherHoldsItsSiteUpByLittle(t *testing.T) {
	for seed := range uint64(4) {
		cfg := twoSites(16, 64, seed)
		alone := Run(cfg).Makespan
		slow := first(cfg, 2, 1)[0]
		cfg.Peers[slow].Up, cfg.Peers[slow].Down = rate/300, rate/300
		cfg.Peers[slow].Crash = 10 * time.Minute
		r := Run(cfg)
		last := time.Duration(0)
		for i, done := range r.Done {
			if i != slow {
				last = max(last, done)
			}
		}
		if c := crossed(cfg, r); c > 1.1 || r.Unfinished > 0 || last > alone*5/4 {
			t.Errorf("seed %d: %.3f copies cross, %d never finished, after %v instead of %v", seed, c, r.Unfinished, last, alone)
		}
	}
}

// Each on its own site: nobody to share with, and no worse than without.
func TestPeersThatAreAloneInTheirSitesAreAsFastAsWithoutAny(t *testing.T) {
	for seed := range uint64(3) {
		cfg := twoSites(12, 64, seed)
		cfg.Between = 0
		for i := range cfg.Peers {
			cfg.Peers[i].Site = 0
		}
		without := Run(cfg)
		for i := range cfg.Peers {
			cfg.Peers[i].Site = 1 + i
		}
		if with := Run(cfg); with.Hash != without.Hash {
			t.Errorf("seed %d: %v with a site of one's own, %v without", seed, with.Makespan, without.Makespan)
		}
	}
}
