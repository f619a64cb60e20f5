package sim

import (
	"math/rand/v2"
	"time"
)

// Mixed returns a swarm of n leechers in which everything goes wrong at once: three of ten come and go (a third of them for good, a third until
// they are back, a third as soon as they are complete), one of ten lies or stalls, links differ, delays too; some swarms have sites,
// some two contents, some fetch in order. All of it follows from the seed.
func Mixed(n int, pieces uint32, seed uint64) Config {
	chance := rand.New(rand.NewPCG(seed, 99))
	cfg := Config{
		Seed: seed, Pieces: pieces/2 + chance.Uint32N(pieces), PieceSize: PieceSize, Contents: 1 + chance.IntN(2),
		Delay: time.Duration(chance.IntN(30)) * time.Millisecond, Limit: time.Hour, Sequential: chance.IntN(4) == 0,
	}
	// Of two contents not everybody wants both: a draw of very few neighbours may then know nobody who has one.
	if n > 50 || cfg.Contents == 1 && chance.IntN(2) == 0 {
		cfg.Neighbours = min(40, 8+n/4)
	}
	all := []int{0, 1}[:cfg.Contents]
	sites := chance.IntN(4) == 0
	if sites {
		cfg.Between = rate
	}
	for i := range 2 {
		cfg.Peers = append(cfg.Peers, Peer{Up: rate, Down: rate, Seeds: all[i%len(all) : i%len(all)+1]})
	}
	// As long as a flash crowd takes: what goes wrong does so in that time.
	busy := int64(seconds(2 * float64(cfg.Pieces) * PieceSize / rate))
	for range n {
		p := Peer{Up: rate / (1 + 9*chance.Float64()), Down: rate / (1 + 3*chance.Float64()), Wants: all[:1+chance.IntN(len(all))]}
		p.Join = time.Duration(chance.Int64N(busy))
		switch trouble := chance.IntN(20); trouble {
		case 0:
			p.Behaviour = Liar
		case 1:
			p.Behaviour = Staller
		case 2, 3, 4, 5:
			p.Crash = p.Join + time.Duration(1+chance.Int64N(busy))
			if trouble > 3 {
				p.Restart = p.Crash + time.Duration(1+chance.Int64N(busy))
			}
		case 6, 7:
			p.Leaves = true
		}
		cfg.Peers = append(cfg.Peers, p)
	}
	if sites {
		for i := range cfg.Peers {
			cfg.Peers[i].Site = 1 + i%2
		}
	}
	return cfg
}
