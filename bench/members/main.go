//go:build linux

// Command members measures what members cost a swarm server, and how fast they hear of each other.
//
//	go run ./bench/members [-n 5000,10000,15000] [-join 5000] [-settle 60s] [-joins 21] [-bursts 5] [-quiet]
//
// Method. The server is a process of its own. All members are connections of this process: read by one goroutine with
// epoll(7), so that they take little of the processors that the server shares with them, and spread over source addresses
// 127.0.x.y. They speak raw messages of 7 bytes, and check that each is told of exactly all others. A process may have
// a limited number of open files (ulimit -Hn), which bounds what can be measured; the server has the same limit.
//
//   - Memory (-n): to a new server so many members come, as fast as they can. When all have been told of all, and after
//     a time to settle, what the server has resident (VmRSS) more than it had before, divided by the members. The peak
//     (VmHWM) is of the whole run. The kernel's memory for the sockets is in neither; what its own objects grew by
//     is told apart, for both ends of the connections together.
//   - Idleness: after that, the processor time of the server in 10 seconds in which nobody comes or goes.
//   - A burst (-join): so many peers connect and say add one after the other, without waiting for anything. The time
//     from the first add to the last message of the last member, and the server's processor time.
//   - One join: one more peer connects, and 20 milliseconds later says add. The time from there until the last member has
//     been told, and until the newcomer has been told of all. Then it leaves. The median of -joins of them.
//
// Each burst has a new server. The server's log goes to a file, as an operator's would; -quiet runs the server with --quiet.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

// options are the flags.
type options struct {
	idle   []int // numbers of idle members
	join   int   // members of a burst
	settle time.Duration
	joins  int
	bursts int
	quiet  bool // the server logs errors only
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "members:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "shoal-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	shoal, err := lab.Build(ctx, dir)
	if err != nil {
		return err
	}
	b := &bench{options: o, shoal: shoal, dir: dir}
	fmt.Printf("Machine: %s\n", lab.Machine())
	if err := b.measureIdle(ctx); err != nil {
		return err
	}
	return b.measureJoins(ctx)
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("members", flag.ContinueOnError)
	idle := f.String("n", "5000,10000,15000", "numbers of idle members, separated by commas")
	f.IntVar(&o.join, "join", 5000, "members of a burst; 0: no bursts and joins")
	f.DurationVar(&o.settle, "settle", time.Minute, "from the last message to the measurement of memory")
	f.IntVar(&o.joins, "joins", 21, "single joins")
	f.IntVar(&o.bursts, "bursts", 5, "bursts")
	f.BoolVar(&o.quiet, "quiet", false, "run the server with --quiet: it logs errors only")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	most := o.join
	for s := range strings.FieldsFuncSeq(*idle, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 2 {
			return o, fmt.Errorf("-n: %q is no number of members to tell of each other", s)
		}
		o.idle = append(o.idle, n)
		most = max(most, n)
	}
	if o.join < 0 || o.join == 1 || o.joins < 1 || o.bursts < 1 || f.NArg() > 0 {
		return o, errors.New("-joins and -bursts must be positive, -join at least 2 or 0, and there are no other arguments")
	}
	return o, checkLimit(most)
}

// checkLimit makes sure that this process, and so the server too, may open enough files.
func checkLimit(members int) error {
	const spare = 100 // for all but the members
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if uint64(members+spare) > limit.Cur {
		return fmt.Errorf("%d members need %d open files, and %d are allowed (ulimit -Hn)", members, members+spare, limit.Cur)
	}
	return nil
}

// progress tells a person who waits what is being done.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
