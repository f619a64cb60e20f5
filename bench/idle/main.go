//go:build linux

// Command idle measures what a swarm costs in which nothing happens.
//
//	go run ./bench/idle [-n 24] [-settle 30s] [-for 60s]
//
// It needs root, and ip (iproute2).
//
// Method. A server, a source and -n less one peers that have fetched its file and stay, in a network namespace of their own that has nothing but a
// loopback; everybody is connected with everybody. After -settle: the processor time of all processes of the program, to the nanosecond, as the scheduler
// counts it for each thread, and all bytes on the loopback, in -for. A connection's bytes are those of both directions, with TCP's and IP's headers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

// inside is set in the process that runs in the namespace.
const inside = "SHOAL_BENCH_IDLE"

type options struct {
	n           int
	settle, dur time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.IntVar(&o.n, "n", 24, "peers, the source among them")
	flag.DurationVar(&o.settle, "settle", 30*time.Second, "between the last transfer and the measurement")
	flag.DurationVar(&o.dur, "for", time.Minute, "how long is measured")
	flag.Parse()
	err := errors.New("it needs root, for a network namespace of its own")
	switch {
	case os.Geteuid() != 0:
	case os.Getenv(inside) == "":
		err = enter(ctx)
	default:
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "idle:", err)
		os.Exit(1)
	}
}

// enter runs this program again, in a namespace.
func enter(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, os.Args[1:]...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	return c.Run()
}

func run(ctx context.Context, o options) error {
	if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	dir, err := os.MkdirTemp("", "shoal-bench-idle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	shoal, err := lab.Build(ctx, dir)
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "source.bin")
	if err := os.WriteFile(source, make([]byte, 4<<20), 0o600); err != nil {
		return err
	}
	server, err := lab.Start(ctx, dir, shoal, "server", "--json", "--state", filepath.Join(dir, "server"), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Stop()
	all := []*lab.Process{server}
	if _, err := server.Await("listening"); err != nil {
		return err
	}
	link, err := exec.CommandContext(ctx, shoal, "link", "-q", "--state", filepath.Join(dir, "server")).Output()
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	for i := range o.n {
		state := filepath.Join(dir, "state"+strconv.Itoa(i))
		if out, err := exec.CommandContext(ctx, shoal, "join", "-q", "--state", state, strings.TrimSpace(string(link))).CombinedOutput(); err != nil {
			return fmt.Errorf("join: %w: %s", err, out)
		}
		args, event := []string{"share", source}, "sharing"
		if i > 0 {
			args, event = []string{"get", "source.bin", "-o", filepath.Join(dir, "got"+strconv.Itoa(i)), "--stay"}, "done"
		}
		p, err := lab.Start(ctx, dir, shoal, append(args, "--json", "--state", state, "--listen", "127.0.0.1:0")...)
		if err != nil {
			return err
		}
		defer p.Stop()
		if _, err := p.Await(event); err != nil {
			return err
		}
		all = append(all, p)
	}
	if err := lab.Sleep(ctx, o.settle); err != nil {
		return err
	}
	return measure(ctx, o, all)
}

func measure(ctx context.Context, o options, all []*lab.Process) error {
	out, err := exec.CommandContext(ctx, "ss", "-Htn", "state", "established").Output()
	if err != nil {
		return err
	}
	connections := strings.Count(string(out), "\n") / 2 // both ends are here
	if want := o.n*(o.n-1)/2 + o.n; connections < want {
		return fmt.Errorf("%d connections instead of %d: wait longer with -settle", connections, want)
	}
	used := make([]time.Duration, len(all))
	for i, p := range all {
		if used[i], err = ran(p.PID()); err != nil {
			return err
		}
	}
	bytes, err := sent()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := lab.Sleep(ctx, o.dur); err != nil {
		return err
	}
	after, err := sent()
	if err != nil {
		return err
	}
	took := time.Since(began)
	total, server := time.Duration(0), time.Duration(0)
	for i, p := range all {
		now, err := ran(p.PID())
		if err != nil {
			return err
		}
		if total += now - used[i]; i == 0 {
			server = now - used[0]
		}
	}
	fmt.Printf("%s\n\n| peers | connections | %% of a core, all processes | the server alone | bytes/s a connection |\n| --- | --- | --- | --- | --- |\n", lab.Machine())
	fmt.Printf("| %d | %d | %.2f | %.2f | %.0f |\n", o.n, connections, 100*total.Seconds()/took.Seconds(), 100*server.Seconds()/took.Seconds(),
		float64(after-bytes)/took.Seconds()/float64(connections))
	return nil
}

// ran returns the processor time of all threads of a process. A thread that has ended meanwhile would be missed: a Go program keeps its threads.
func ran(pid int) (sum time.Duration, err error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// sent returns the bytes that have crossed the loopback.
func sent() (int64, error) {
	b, err := os.ReadFile("/proc/self/net/dev")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if name, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "lo" {
			return strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		}
	}
	return 0, errors.New("no loopback")
}
