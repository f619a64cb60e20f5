package store

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// Every way in which the power can go once in a download: at each operation, each number of changes of names that have become durable, and all
// bytes that were not synced lost, kept, or torn and out of order.
func TestEveryWayInWhichPowerGoesOnceLosesNothing(t *testing.T) {
	cases := 0
	for _, before := range []earlier{nothing, older, stopped} {
		for at, over := 1, false; !over; at++ {
			for names, more := 0, true; more; names++ {
				for how := range 4 { // torn twice
					var err error
					if over, more, err = powerOnce(t, before, at, names, min(how, torn), uint64(how)); err != nil {
						t.Fatalf("before %d, operation %d, %d changes of names, %d: %v", before, at, names, how, err)
					}
					cases++
				}
			}
		}
	}
	t.Logf("cases %d", cases)
}

// earlier is what there was before the download in which the power goes.
type earlier int

const (
	nothing earlier = iota
	older           // a version that is to be replaced
	stopped         // a run that was stopped properly, and everything lasts
)

// powerOnce says whether the download was over before, and whether more changes of names might have become durable.
func powerOnce(t *testing.T, before earlier, at, names, how int, seed uint64) (over, more bool, err error) {
	chance := rand.New(rand.NewPCG(seed, uint64(at)))
	c := newCrashing(before == older)
	d := c.older()
	if before == stopped {
		if err := c.run(t, d, true); err != nil {
			return false, false, err
		}
		_ = (&simFolder{d}).SyncAll()
		d.ops = 0
	}
	d.stopAt = at
	err = c.run(t, d, false)
	over, more = !d.stopped, names < len(d.pending)
	if err == nil {
		d = d.crashAs(min(names, len(d.pending)), func() int { return how }, chance)
		err = c.check(d)
	}
	if err == nil {
		err = c.run(t, d, false)
	}
	if err == nil {
		err = c.end(d, nil)
	}
	return over, more, err
}

const powerSeeds = "testdata/power"

// The seeds of disks on which something was lost once: bench/long appends them.
func TestPowerThatTookSomethingOnceDoesNot(t *testing.T) {
	f, err := os.Open(powerSeeds)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	from := crashSource(t)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if line := lines.Text(); line != "" && !strings.HasPrefix(line, "#") {
			var what string
			var seed uint64
			var at int
			if _, err := fmt.Sscan(line, &what, &seed, &at); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if _, err := powerSample(t, from, what, seed, at); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}

// powerKinds are what bench/long samples.
var powerKinds = []string{"file", "repair", "directory", "directory-repair"}

func powerSample(t *testing.T, from *SharedDir, what string, seed uint64, at int) (over bool, err error) {
	overwrite := strings.HasSuffix(what, "repair")
	if !strings.HasPrefix(what, "directory") {
		return crashAt(t, overwrite, "", seed, at, make(map[string]bool))
	}
	return crashDirAt(t, from, overwrite, seed%2 == 0, "", seed, at, make(map[string]bool))
}

// A sample for a time, as bench/long runs it: SHOAL_POWER is the first seed, and the seconds that it may take.
func TestPowerSample(t *testing.T) {
	var seed uint64
	var seconds float64
	if _, err := fmt.Sscan(os.Getenv("SHOAL_POWER"), &seed, &seconds); err != nil {
		t.Skip("left out: bench/long runs it, with SHOAL_POWER")
	}
	cases, from := 0, crashSource(t)
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end) && !t.Failed(); seed++ {
		what := powerKinds[seed%uint64(len(powerKinds))]
		for at, over := 1, false; !over && time.Now().Before(end); at++ {
			var err error
			if over, err = powerSample(t, from, what, seed, at); err != nil {
				t.Errorf("failed: %s %d %d\n%v", what, seed, at, err)
				break
			}
			cases++
		}
	}
	fmt.Printf("cases %d\n", cases)
}
