package sim

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Whatever goes wrong at once: honest peers that live, or come back, have everything in the end, and a seed is the same swarm each time.
func TestEverybodyFinishesInAMixedSwarm(t *testing.T) {
	for seed := range uint64(10) { // bench/long has thousands
		checkMixed(t, 24, 64, seed)
	}
}

// The seeds of swarms that failed once: bench/long appends them.
func TestMixedSwarmsThatFailedOnceDoNot(t *testing.T) {
	f, err := os.Open("testdata/seeds")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			var n int
			var pieces uint32
			var seed uint64
			if _, err := fmt.Sscan(line, &n, &pieces, &seed); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			checkMixed(t, n, pieces, seed)
		}
	}
}

func checkMixed(t *testing.T, n int, pieces uint32, seed uint64) {
	t.Helper()
	a, b := Run(Mixed(n, pieces, seed)), Run(Mixed(n, pieces, seed))
	if a.Unfinished > 0 {
		t.Errorf("%d leechers, seed %d: %d of them never finished", n, seed, a.Unfinished)
	}
	if a.Hash != b.Hash {
		t.Errorf("%d leechers, seed %d: two runs differ: %016x, %016x", n, seed, a.Hash, b.Hash)
	}
}

func BenchmarkMixed(b *testing.B) {
	seed := uint64(0)
	for b.Loop() {
		seed++
		Run(Mixed(24, 64, seed))
	}
}
