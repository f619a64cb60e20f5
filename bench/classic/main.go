//go:build linux

// Command classic measures a classic download against a bare copy: what does the swarm cost, compared with the least
// that moving the same bytes over a socket into the same file system can cost?
//
//	go run ./bench/classic [-size 2e9] [-dir DIR,DIR...] [-pairs 5] [-holders 1,4]
//
// Method. In each folder of -dir a file of random bytes is made; it stays in the page cache. Then, for each number of
// holders, pairs of runs follow each other, and whoever went first in one pair goes second in the next:
//
//   - A bare copy: a process that accepts a connection and sends the file with sendfile(2), and one that connects,
//     receives with splice(2) into a new file of the same folder, and then syncs it. Its time counts from the start
//     of the receiving process, once to the last byte and once to the end of the sync.
//   - Our download: a swarm server, the holders (shoal share) and the downloader (shoal get), which writes into the same
//     folder and syncs what it wrote before it gives the file its name. Its time counts from the start of the process
//     to its end, and apart from that from its event "start" to its event "done": before the start it looks for
//     holders, and since the protocol does not say when a list of members is complete, that has to last a moment.
//
// Each copy is compared with the source, and removed. The memory that it takes is at hand when it begins, for the reason
// told in ballast.go: without that, the figures of a virtual machine say more of its host than of the copy. One pair that is not counted goes first. The figures are medians
// of all pairs, ratios are medians of each pair's own ratio. Processor seconds are user and system time of the processes
// on either side; what the kernel does in threads of its own, such as writing back to the disk, is not in them. The
// machine should have nothing else to do: each pair waits for that, and is measured again when others used the processors
// for more than a quarter of what it used itself, whatever it came to. How many such pairs had to be taken is reported.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"shoal/bench/internal/lab"
)

// options are the flags.
type options struct {
	size    int64 // bytes of the file
	dirs    []string
	pairs   int
	holders []int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "classic:", err)
		os.Exit(1)
	}
}

// run plays one of the two ends of a bare copy when its first argument says so, and otherwise runs the benchmark.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case senderRole:
			return sendBare(ctx, args[1])
		case receiverRole:
			return receiveBare(args[1], args[2])
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return measure(ctx, o)
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("classic", flag.ContinueOnError)
	size := f.Float64("size", 2e9, "bytes of the file")
	dirs := f.String("dir", "/dev/shm,"+os.TempDir(), "folders to copy in, separated by commas, each for a file system")
	holders := f.String("holders", "1,4", "numbers of sharing peers, separated by commas")
	f.IntVar(&o.pairs, "pairs", 5, "pairs of a bare copy and a download")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.size, o.dirs = int64(*size), strings.Split(*dirs, ",")
	for s := range strings.SplitSeq(*holders, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-holders: %q is no number of peers", s)
		}
		o.holders = append(o.holders, n)
	}
	if o.size < 1 || o.pairs < 1 || f.NArg() > 0 {
		return o, errors.New("-size and -pairs must be at least 1, and there are no other arguments")
	}
	return o, nil
}

func measure(ctx context.Context, o options) error {
	tools, err := os.MkdirTemp("", "shoal-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tools)
	shoal, err := lab.Build(ctx, tools)
	if err != nil {
		return err
	}
	fmt.Printf("Machine: %s\n", lab.Machine())
	for _, dir := range o.dirs {
		if err := measureIn(ctx, o, shoal, dir); err != nil {
			return fmt.Errorf("in %s: %w", dir, err)
		}
	}
	return nil
}

// measureIn runs all series in one folder.
func measureIn(ctx context.Context, o options, shoal, dir string) error {
	work, err := os.MkdirTemp(dir, "shoal-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{shoal: shoal, dir: work, source: filepath.Join(work, "source.bin"), size: o.size}
	progress("%s: making %d bytes", dir, o.size)
	if err := makeFile(ctx, b.source, o.size); err != nil {
		return err
	}
	ballast, err := newBallast(ctx, 3*o.size) // blocks of one size may be but half of it
	if err != nil {
		return err
	}
	defer ballast.Close()
	fmt.Printf("\n### %s, %.3g GB\n\n%s", lab.Filesystem(dir), float64(o.size)/1e9, tableHead)
	for _, n := range o.holders {
		pairs, err := b.series(ctx, n, o.pairs)
		if err != nil {
			return err
		}
		fmt.Print(tableRows(n, o.size, pairs))
	}
	return nil
}

// progress tells a person who waits what is being done.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
