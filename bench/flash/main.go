//go:build linux

// Command flash measures a flash crowd: one source, and N machines that all want its file now, over links with a limit.
//
//	go run ./bench/flash [-n 8,16,24] [-size 33554432] [-rate 25mbit] [-mtu 1500] [-queue 100ms] [-congestion NAME] [-runs 3]
//	    [-scenario equal,killed | all] [-tool shoal,aria2] [-dir /dev/shm] [-curve FILE] [-json] [-keep]
//
// It needs root, ip, tc and ss (iproute2), unshare and nsenter (util-linux), and for -tool aria2 aria2c.
//
// Method. The source, each leecher, and the server have a network namespace each, joined by pairs of virtual interfaces to a bridge in one
// more; nothing of the machine's own network is touched. Up- and downlink of each machine are limited (tbf) where packets enter the cable.
// The server's link has no limit. All machines have joined the swarm before, each with a state of its own; the source has hashed
// and offers the file. The processes of the leechers wait at gates, which open one after the other within a millisecond or so. All then run
//
//	shoal get NAME --json -o DIR --stay
//
// with DIR in memory. The makespan counts from the first gate to the last event "done" as this program reads it, and so includes the start of
// the processes, handshakes, the search, the manifest, and giving the file its name. It is compared with a bound that no scheme can
// beat, whatever it does: T* = max(F/u_s, F/d_min, N*F/(u_s + sum u_i)), for content without any header. See bound.go for what becomes of it where
// machines come late, go or stand still.
//
// The scenarios are in scenario.go. "slowone" counts the slow machine's end too, and in turn runs the same crowd without it. Those
// that lie are processes of this program (package hostile): the one that is measured has no switch for that. "attack:ROLE" has one hostile machine to
// ten leechers, and with -pairs 10 -log FILE -scenario attack:all ten rounds are made, in each of which the swarm is measured without any
// and then with each role.
//
// What is measured beside:
//
//   - copies by the source: what the switch has received of it, by F, with a header for every segment; "of payload" is what others have
//     acknowledged on its connections: TLS, frames and news are still in it;
//   - CPU: user and system time of all processes of the program (the server's too) from the first gate on, and that by what all fetch; for
//     aria2 without its tracker, which is this program;
//   - idle: the part of all processors' time that was idle or waiting for a disk. Below 30 % a figure would be the processors', not the
//     network's, and the run is void. A void run is repeated, as often as there are runs at most;
//   - peak: resident memory of the greatest process; wasted: bytes of pieces that were fetched in vain, as the program says;
//     repeated segments: what TCP sent again, of what all machines sent;
//   - the curve: what all machines sent, by what all uplinks could carry, sampled each 100 ms. With equal links N of N+1 uplinks' worth is all
//     that can be used. Virtual interfaces count a burst of segments that the kernel has not cut yet with one header: a few percent less
//     than was sent.
//
// Figures are medians over the runs; content is compared byte by byte afterwards.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
	"shoal/internal/content"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "flash:", err)
		os.Exit(1)
	}
}

// bench is what is asked for.
type bench struct {
	shoal, dir string
	size, rate float64
	runs       int
	wire       wire
	json       bool
	keep       bool
	calm       time.Duration // how long it is waited before a run for a machine that has nothing else to do
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "tracker" {
		return runTracker(ctx, args[1])
	}
	if len(args) == 6 && args[0] == "hostile" {
		return runHostile(ctx, args[1:])
	}
	f := flag.NewFlagSet("flash", flag.ContinueOnError)
	b := &bench{calm: 20 * time.Second}
	ns := f.String("n", "8,16,24", "numbers of leechers")
	size := f.Int64("size", 32<<20, "bytes of the file: up to 1 GiB; up to 64 MiB it has pieces of 64 KiB, then at most 1,024 pieces")
	rate := f.String("rate", "25mbit", "rate of a link")
	f.IntVar(&b.wire.mtu, "mtu", 1500, "largest packet: up to 9000")
	f.DurationVar(&b.wire.queue, "queue", 100*time.Millisecond, "how much may wait for a link")
	f.StringVar(&b.wire.congestion, "congestion", "", "TCP's congestion control (default: the machine's)")
	f.IntVar(&b.runs, "runs", 3, "runs of each, for a median")
	which := f.String("scenario", "equal", names()+", all of those, or attack:ROLE, attack:all")
	rounds := f.Int("pairs", 0, "with attack:...: so many rounds, in each of which the swarm is measured without and then with each role")
	pairsLog := f.String("log", "pairs.json", "with -pairs: the file to which the runs are appended, and of which the table is made")
	with := f.String("tool", "shoal", "shoal, aria2, or both")
	dir := f.String("dir", "/dev/shm", "folder to work in: memory")
	curves := f.String("curve", "", "write the samples of all runs into this file (CSV)")
	f.BoolVar(&b.json, "json", false, "print one object a row")
	f.BoolVar(&b.keep, "keep", false, "leave the folder, with all files and what the processes said of themselves (log0 is the source's)")
	if err := f.Parse(args); err != nil {
		return err
	}
	todo, err := choose(*which, *with, *ns)
	if err != nil {
		return err
	}
	if b.rate, err = parseRate(*rate); err != nil {
		return err
	}
	b.size = float64(*size)
	if *size < content.MinPiece || *size > 1<<30 || b.wire.mtu < 576 || b.wire.mtu > 9000 || b.runs < 1 || b.wire.queue <= 0 || f.NArg() > 0 {
		return errors.New("see -help for what the flags may be")
	}
	if err := b.able(*with); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(*dir, "shoal-flash-"); err != nil {
		return err
	}
	defer b.remove(b.dir)
	if b.shoal, err = lab.Build(ctx, b.dir); err != nil {
		return err
	}
	for i := range 2 {
		if err := makeFile(filepath.Join(b.dir, "flash"+strconv.Itoa(i)+".bin"), *size, byte(i)); err != nil {
			return err
		}
	}
	if *rounds > 0 {
		b.calm = 5 * time.Second // there are many, and what disturbs one disturbs the one beside it
		return b.pairs(ctx, todo, *rounds, *pairsLog)
	}
	return b.all(ctx, todo, args, *curves)
}

// all measures every row, and prints the table and what there is to say about it.
func (b *bench) all(ctx context.Context, todo []*series, args []string, curves string) error {
	if !b.json {
		fmt.Printf("Machine: %s; TCP: %s\n\n    go run ./bench/flash %s\n\n%.4g MB, %.4g Mbit/s, MTU %d, medians of %d\n\n%s", lab.Machine(), b.control(),
			strings.Join(args, " "), b.size/1e6, b.rate*8/1e6, b.wire.mtu, b.runs, head)
	}
	for _, x := range todo {
		if err := b.series(ctx, x); err != nil {
			return fmt.Errorf("%s, %s, N = %d: %w", x.s.name, x.tool, x.n, err)
		}
		if b.json {
			if err := x.object(os.Stdout); err != nil {
				return err
			}
			continue
		}
		x.print(os.Stdout)
	}
	if !b.json {
		fmt.Println()
		for _, x := range todo {
			x.explain(os.Stdout)
		}
	}
	if curves != "" {
		return writeCurves(curves, todo)
	}
	return nil
}

// able says what is missing for the measurement.
func (b *bench) able(tools string) error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces and shaped links need root: please run this as root (sudo go run ./bench/flash)")
	}
	need := map[string]string{"ip": "iproute2", "tc": "iproute2", "ss": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
	if strings.Contains(tools, "aria2") {
		need["aria2c"] = "aria2"
	}
	for tool, packet := range need {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("there is no %s here: it is in the package %s", tool, packet)
		}
	}
	return nil
}

// control names the congestion control in use.
func (b *bench) control() string {
	if b.wire.congestion != "" {
		return b.wire.congestion
	}
	name, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(name))
}

// choose makes the rows that are asked for.
func choose(which, tools, ns string) (out []*series, err error) {
	wanted := strings.Split(which, ",")
	if which == "all" {
		wanted = strings.Split(names(), ",")
	}
	known := append(slices.Clone(scenarios), attacks()...)
	if i := slices.Index(wanted, attackPrefix+"all"); i >= 0 {
		wanted = slices.Delete(wanted, i, i+1)
		for _, s := range attacks() {
			wanted = append(wanted, s.name)
		}
	}
	for _, name := range wanted {
		i := slices.IndexFunc(known, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no scenario %q: there are %s, and attack:ROLE", name, names())
		}
		for number := range strings.SplitSeq(ns, ",") {
			n, err := strconv.Atoi(number)
			if err != nil || n < 2 || n > 200 {
				return nil, fmt.Errorf("%q is no number of leechers", number)
			}
			for tool := range strings.SplitSeq(tools, ",") {
				if tool != (ours{}).name() && tool != (aria2{}).name() {
					return nil, fmt.Errorf("there is no tool %q", tool)
				}
				if tool == (ours{}).name() || known[i].aria2 {
					out = append(out, &series{s: known[i], tool: tool, n: n})
				}
			}
		}
	}
	return out, nil
}

// series makes the runs of a row. Those that the processors have spoilt are repeated.
func (b *bench) series(ctx context.Context, x *series) error {
	for tries := 0; len(x.valid()) < b.runs && tries < 2*b.runs; tries++ {
		var base *result
		if x.s.without {
			var err error
			base, err = b.once(ctx, x, scenario{name: "without", plan: func(size, rate float64, n int) plan { return equal(size, rate, n-1) }})
			if err != nil {
				return err
			}
		}
		r, err := b.once(ctx, x, x.s)
		if err != nil {
			return err
		}
		x.add(r, base)
	}
	return nil
}

// once makes one run.
func (b *bench) once(ctx context.Context, x *series, s scenario) (*result, error) {
	if _, err := lab.Calm(ctx, b.calm); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return nil, err
	}
	defer b.remove(dir)
	c := &crowd{dir: dir, talk: b.keep, shoal: b.shoal, tool: ours{}, plan: s.plan(b.size, b.rate, x.n), act: s.act, role: s.role}
	if x.tool == (aria2{}).name() {
		c.tool = aria2{}
	}
	for i := range c.plan.contents {
		c.files = append(c.files, filepath.Join(b.dir, "flash"+strconv.Itoa(i)+".bin"))
	}
	defer c.close()
	if err := c.prepare(ctx, b.wire); err != nil {
		return nil, err
	}
	if err := c.run(ctx, time.Duration((30+6*c.plan.bound)*float64(time.Second))); err != nil {
		return nil, err
	}
	r := judge(c, s)
	if s.notes != nil {
		s.notes(c, r)
	}
	return r, nil
}

func (b *bench) remove(dir string) {
	if b.keep {
		fmt.Fprintln(os.Stderr, "kept:", dir)
		return
	}
	os.RemoveAll(dir)
}

// parseRate reads a rate as tc writes it, and returns bytes a second.
func parseRate(s string) (float64, error) {
	for suffix, factor := range map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9} {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			v, err := strconv.ParseFloat(number, 64)
			if err == nil && v > 0 && !math.IsInf(v, 0) {
				return v * factor / 8, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no rate like 25mbit", s)
}

func makeFile(path string, size int64, seed byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, mrand.NewChaCha8([32]byte{seed}), size); err != nil {
		return err
	}
	return f.Close()
}
