//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"shoal/bench/internal/lab"
	"shoal/internal/hostile"
	"shoal/internal/identity"
	"shoal/internal/node"
	"shoal/internal/store"
)

// attackPrefix is what the names of scenarios begin with in which some machines are hostile.
const attackPrefix = "attack:"

// attacks returns the scenarios in which there is one hostile machine to ten honest leechers, at least one, in a swarm like that of "equal".
func attacks() (out []scenario) {
	for _, role := range append(hostile.Roles(), hostile.Mixed) {
		out = append(out, scenario{
			name: attackPrefix + string(role), about: "one hostile machine to ten leechers, at least one, with a link like theirs: " + string(role),
			plan: func(size, rate float64, n int) plan {
				p := equal(size, rate, n)
				p.hostile = slices.Repeat([]link{{rate, rate}}, max(1, n/10))
				return p
			},
			notes: noteAttack, role: role,
		})
	}
	return out
}

// attack starts the hostile peers.
func (c *crowd) attack(ctx context.Context, role hostile.Role) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i := range c.plan.hostile {
		at := 1 + len(c.plan.leechers) + i
		args := c.net.machines[at].within(self, "hostile", string(role), c.link, c.files[0], filepath.Join(c.dir, "hostile"+strconv.Itoa(i)), machineAddr(at))
		p, err := lab.Start(ctx, c.logs(at), args[0], args[1:]...)
		if err != nil {
			return err
		}
		c.hostile = append(c.hostile, p)
		if _, err := p.Await("ready"); err != nil {
			return err
		}
	}
	return nil
}

// runHostile is a process of its own, on a hostile machine. It joins as often as its role wants, prints the event "ready", and attacks.
func runHostile(ctx context.Context, args []string) error {
	role, file, dir, host := hostile.Role(args[0]), args[2], args[3], args[4]
	link, err := identity.ParseLink(args[1])
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := store.Hash(ctx, f, fi.Size(), 1, nil)
	if err != nil {
		return err
	}
	members := make(chan *identity.Swarm, hostile.Members(role))
	for i := range cap(members) {
		states, err := identity.OpenStates(filepath.Join(dir, strconv.Itoa(i)))
		if err != nil {
			return err
		}
		sw, err := node.Join(ctx, states, link, "hostile")
		if err != nil {
			return err
		}
		members <- sw
	}
	_ = json.NewEncoder(os.Stdout).Encode(lab.Event{T: "ready"}) // nobody reads: then nobody waits either
	return hostile.Run(ctx, hostile.Config{
		Role: role, Host: host, Name: filepath.Base(file), Manifest: m,
		Join: func(context.Context) (*identity.Swarm, error) { return <-members, nil },
	})
}

// noteAttack says what has gone to and from the hostile machines, headers and all.
func noteAttack(c *crowd, r *result) {
	var sent, received int64
	for i := range c.plan.hostile {
		at := 1 + len(c.plan.leechers) + i
		sent += c.after.traffic[at].sent - c.before.traffic[at].sent
		received += c.after.traffic[at].received - c.before.traffic[at].received
	}
	r.note("hostileSent", float64(sent)/c.plan.size, "what is hostile has sent %.3f copies", float64(sent)/c.plan.size)
	r.note("hostileReceived", float64(received)/c.plan.size, "and received %.3f", float64(received)/c.plan.size)
}

// paired is one run of a round, in which the same swarm is measured without and then with each role.
type paired struct {
	Round    string  `json:"round"`
	Scenario string  `json:"scenario"` // "equal" is the one without
	N        int     `json:"n"`
	Makespan float64 `json:"makespan"`
	Median   float64 `json:"median"`
	Bound    float64 `json:"bound"`
	Copies   float64 `json:"copies"` // of the source
	Wasted   float64 `json:"wasted"`
	Sent     float64 `json:"sent"` // copies, by what is hostile
	Received float64 `json:"received"`
	Idle     float64 `json:"idle"`
	Peak     int64   `json:"peak"`
	Finished int     `json:"finished"`
	Expected int     `json:"expected"`
	Correct  bool    `json:"correct"`
}

// pairs makes rounds, appends what they came to to a file, and prints a table of all that is in the file.
func (b *bench) pairs(ctx context.Context, todo []*series, rounds int, path string) error {
	log, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	without := &series{s: scenarios[0], tool: ours{}.name(), n: todo[0].n}
	for range rounds {
		round := filepath.Base(b.dir) + "-" + strconv.FormatInt(int64(os.Getpid()), 10) + "-" + strconv.Itoa(len(without.runs))
		for i := range 1 + len(todo) {
			x := without
			if i > 0 { // who comes last in one round comes first in the next
				x = todo[(i+len(without.runs))%len(todo)]
			}
			if err := b.pairedRun(ctx, x, round, log); err != nil {
				return err
			}
		}
	}
	if _, err := log.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return printPairs(os.Stdout, log)
}

// pairedRun makes one run of a round, again if the processors were its limit.
func (b *bench) pairedRun(ctx context.Context, x *series, round string, log io.Writer) error {
	for range 3 {
		r, err := b.once(ctx, x, x.s)
		if err != nil {
			return fmt.Errorf("%s: %w", x.s.name, err)
		}
		x.runs = append(x.runs, r)
		if r.Void {
			continue
		}
		return json.NewEncoder(log).Encode(paired{
			Round: round, Scenario: x.s.name, N: x.n, Makespan: r.Makespan, Median: r.Median, Bound: r.Bound, Copies: r.Copies, Wasted: r.Wasted,
			Sent: r.Values["hostileSent"], Received: r.Values["hostileReceived"], Idle: r.Idle, Peak: r.Peak,
			Finished: r.Finished, Expected: r.Expected, Correct: r.Correct,
		})
	}
	fmt.Fprintf(os.Stderr, "%s: void three times: CPU saturated (%.0f %% idle)\n", x.s.name, 100*x.runs[len(x.runs)-1].Idle)
	return nil
}

// printPairs prints what the rounds in a file came to, role by role.
func printPairs(w io.Writer, file io.Reader) error {
	base := make(map[string]paired)
	by := make(map[string][]paired)
	var names []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var p paired
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return err
		}
		if !strings.HasPrefix(p.Scenario, attackPrefix) {
			base[p.Round] = p
			continue
		}
		if by[p.Scenario] == nil {
			names = append(names, p.Scenario)
		}
		by[p.Scenario] = append(by[p.Scenario], p)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	slices.Sort(names)
	fmt.Fprint(w, pairsHead)
	for _, name := range names {
		printPair(w, name, by[name], base)
	}
	return nil
}

const pairsHead = `| scenario | N | pairs | makespan s without | with | **with / without** (least, most of a pair) | median leecher without, with | source: copies without, with | wasted | hostile: copies sent, received | peak MiB | finished |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
`

func printPair(w io.Writer, name string, all []paired, base map[string]paired) {
	all = slices.DeleteFunc(slices.Clone(all), func(p paired) bool { _, ok := base[p.Round]; return !ok })
	if len(all) == 0 {
		return
	}
	mid := func(f func(with, without paired) float64) lab.Spread {
		var v []float64
		for _, p := range all {
			v = append(v, f(p, base[p.Round]))
		}
		return lab.Summarize(v)
	}
	finished, expected, wrong := 0, 0, ""
	for _, p := range all {
		finished, expected = finished+p.Finished, expected+p.Expected
		if !p.Correct {
			wrong = " **wrong content**"
		}
	}
	without, with := mid(func(_, p paired) float64 { return p.Makespan }).Median, mid(func(p, _ paired) float64 { return p.Makespan }).Median
	ratios := mid(func(p, q paired) float64 { return p.Makespan / q.Makespan })
	fmt.Fprintf(w, "| %s | %d | %d | %.2f | %.2f | **%.3f** (%.3f, %.3f) | %.2f, %.2f | %.2f, %.2f | %.2f %% | %.2f, %.2f | %.0f | %d of %d%s |\n",
		name, all[0].N, len(all), without, with, with/without, ratios.Min, ratios.Max,
		mid(func(_, p paired) float64 { return p.Median }).Median, mid(func(p, _ paired) float64 { return p.Median }).Median,
		mid(func(_, p paired) float64 { return p.Copies }).Median, mid(func(p, _ paired) float64 { return p.Copies }).Median,
		100*mid(func(p, _ paired) float64 { return p.Wasted }).Median, mid(func(p, _ paired) float64 { return p.Sent }).Median,
		mid(func(p, _ paired) float64 { return p.Received }).Median, mid(func(p, _ paired) float64 { return float64(p.Peak) / (1 << 20) }).Median,
		finished, expected, wrong)
}

// machineAddr returns the address of machine i.
func machineAddr(i int) string { return net.IPv4(10, 77, 0, byte(i+1)).String() }
