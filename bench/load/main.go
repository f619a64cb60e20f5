//go:build linux

// Command load measures what many connections at once cost a swarm server and a peer. What classic members cost when they are idle, and when
// they come in a burst, is bench/members'.
//
//	go run ./bench/load [-do idle,flap,stuck,slow] [-n 5000,10000,15000] [-settle 20s]
//
// Method. Server and peer are processes of their own, and all others are connections of this one, on loopback, from source addresses 127.x.y.z: they share the
// processors. Both ends need a descriptor each, of which a process may have 20,000 here (ulimit -Hn). Nothing is extrapolated: the slope is
// between numbers that were there. Kernel memory for sockets is not in what a process has resident.
//
//   - idle: so many members of our own protocol (TLS 1.3, certificates on both sides) come as fast as they can, in 64 goroutines, and enter; each
//     then answers pings and nothing else. Memory (VmRSS) after -settle, less what the server had before, by the members; CPU of ten seconds.
//   - flap: 1,000 members follow a content; another says hold and retract of it a hundred times, one after the other. How long until all who are to be told
//     are: alone, and while one more connection says hold and retract of the same content as fast as it is let. The same with classic members: add and remove.
//   - stuck: connections that send three bytes of a classic message, a third of a ClientHello, or nothing. The most that the server has resident
//     more than before, and whether somebody honest gets in meanwhile.
//   - slow: a peer shares a file; hundreds read 4 KiB/s of it with the classic protocol, and one reads as fast as it can. How long that takes
//     alone and beside them, and what the peer has resident.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

type options struct {
	n      []int
	settle time.Duration
	slow   int
	stuck  int
}

// bench is what all parts share.
type bench struct {
	options
	dir, path string
	next      int // number of the next server
}

var parts = map[string]func(context.Context, *bench) error{"idle": idle, "flap": flap, "stuck": stuck, "slow": slow}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	var o options
	do := f.String("do", "idle,flap,stuck,slow", "what to measure")
	n := f.String("n", "5000,10000,15000", "numbers of idle members")
	f.DurationVar(&o.settle, "settle", 20*time.Second, "from the last member to the look at the memory")
	f.IntVar(&o.slow, "slow", 200, "slow readers")
	f.IntVar(&o.stuck, "stuck", 9000, "stuck connections")
	if err := f.Parse(args); err != nil {
		return err
	}
	for s := range strings.SplitSeq(*n, ",") {
		v, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		o.n = append(o.n, v)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if most := max(slices.Max(o.n), o.stuck); uint64(most)+200 > files.Max {
		return fmt.Errorf("%d connections need more files than a process may have here: %d", most, files.Max)
	}
	dir, err := os.MkdirTemp("", "shoal-load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{options: o, dir: dir}
	if b.path, err = lab.Build(ctx, dir); err != nil {
		return err
	}
	fmt.Printf("Machine: %s\n", lab.Machine())
	for part := range strings.SplitSeq(*do, ",") {
		if parts[part] == nil {
			return fmt.Errorf("-do: there is no %q", part)
		}
		if err := parts[part](ctx, b); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

// server is a new swarm server.
type server struct {
	*lab.Process
	addr, link string
}

func (b *bench) server(ctx context.Context) (*server, error) {
	b.next++
	addr := fmt.Sprintf("127.%d.0.%d:0", 150+os.Getpid()%50, b.next)
	p, err := lab.Start(ctx, b.dir, b.path, "server", "--classic", "--json", "--no-lan", "--state", filepath.Join(b.dir, fmt.Sprint("server", b.next)), "--listen", addr)
	if err != nil {
		return nil, err
	}
	e, err := p.Await("listening")
	if err != nil {
		p.Stop()
		return nil, err
	}
	return &server{p, e.Addr, e.Link}, nil
}

// source is the address from which a connection of that number comes.
func source(number int) string {
	return fmt.Sprintf("127.%d.%d.%d", 2+number/(250*250), 1+number/250%250, 1+number%250)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[(len(d)-1)*p/100].Round(10 * time.Microsecond)
}
