//go:build linux

// Command far measures one download from one source over a long fast way.
//
//	go run ./bench/far [-size 536870912] [-rate 200] [-delay 250ms] [-mtu 1500] [-runs 3]
//
// It needs root, ip and ss (iproute2), and /dev/net/tun.
//
// Method. The server and the source are in one network namespace, the one that fetches in another; each has a tunnel device (TUN) as its only way out, and
// this program carries the packets between them: -rate Mbit/s and half of -delay in each direction, with a queue of 100 ms before each, that drops what does
// not fit. The kernel may give a connection as much memory as the way holds three times (tcp_rmem, tcp_wmem in the namespaces: as shipped, Linux stops at 6 and 4 MiB).
// A bare TCP connection carries as many bytes before each download. What is told: the time from the start of the process to its event "done", with the search and the handshakes; how much of the way
// it used in the mean, and in the second half of the time; and the most bytes that were under way on one connection, asked of the source's
// kernel every 200 ms.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"shoal/bench/internal/lab"
)

type options struct {
	size, mtu, runs int
	rate            float64
	delay           time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.IntVar(&o.size, "size", 512<<20, "bytes of the file")
	flag.IntVar(&o.mtu, "mtu", 1500, "largest packet")
	flag.IntVar(&o.runs, "runs", 3, "downloads")
	flag.Float64Var(&o.rate, "rate", 200, "Mbit/s of the way, in each direction")
	flag.DurationVar(&o.delay, "delay", 250*time.Millisecond, "of a packet and its answer")
	flag.Parse()
	err := errors.New("it needs root, for network namespaces of its own")
	if os.Geteuid() == 0 {
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "far:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "shoal-bench-far-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	shoal, err := lab.Build(ctx, dir)
	if err != nil {
		return err
	}
	source := filepath.Join(dir, "source.bin")
	content := make([]byte, o.size)
	for i := 0; i < len(content); i += 4096 {
		rand.NewChaCha8([32]byte{byte(i >> 12), byte(i >> 20), byte(i >> 28)}).Read(content[i:min(i+4096, len(content))])
	}
	if err := os.WriteFile(source, content, 0o600); err != nil {
		return err
	}
	near, err := newSide(ctx, "10.77.0.1", "10.77.0.2", o)
	if err != nil {
		return err
	}
	defer near.close()
	away, err := newSide(ctx, "10.77.0.2", "10.77.0.1", o)
	if err != nil {
		return err
	}
	defer away.close()
	var carrying sync.WaitGroup
	defer carrying.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, w := range [][2]*side{{near, away}, {away, near}} {
		l := &lane{from: w[0].tun, to: w[1].tun, rate: o.rate * 1e6 / 8, delay: o.delay / 2}
		carrying.Go(func() { l.carry(ctx) })
	}
	return download(ctx, o, dir, shoal, source, near, away)
}

// download runs the processes, and prints a row for each download.
func download(ctx context.Context, o options, dir, shoal, source string, near, away *side) error {
	state := func(name string) string { return filepath.Join(dir, name) }
	server, err := near.start(ctx, dir, shoal, "server", "--json", "--state", state("server"), "--listen", "10.77.0.1:50001")
	if err != nil {
		return err
	}
	defer server.Stop()
	if _, err := server.Await("listening"); err != nil {
		return err
	}
	link, err := exec.CommandContext(ctx, shoal, "link", "-q", "--state", state("server")).Output()
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	for name, s := range map[string]*side{"source": near, "sink": away} {
		if out, err := s.run(exec.CommandContext(ctx, shoal, "join", "-q", "--state", state(name), strings.TrimSpace(string(link)))); err != nil {
			return fmt.Errorf("join: %w: %s", err, out)
		}
	}
	share, err := near.start(ctx, dir, shoal, "share", source, "--json", "--state", state("source"), "--listen", "10.77.0.1:0")
	if err != nil {
		return err
	}
	defer share.Stop()
	if _, err := share.Await("sharing"); err != nil {
		return err
	}
	fmt.Printf("%s\n\n| what | size | Mbit/s | round trip | s | part of the way used | in the second half | most under way on one connection, MiB |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n", lab.Machine())
	for range o.runs {
		if err := bare(ctx, o, near, away); err != nil {
			return err
		}
		out := filepath.Join(dir, "got.bin")
		began, before := time.Now(), away.tun.came()
		get, err := away.start(ctx, dir, shoal, "get", "source.bin", "-o", out, "--json", "--once", "--overwrite", "--state", state("sink"), "--listen", "10.77.0.2:0")
		if err != nil {
			return err
		}
		watched := near.watch(ctx, away.tun)
		_, err = get.Await("done")
		took := time.Since(began)
		most, samples := watched()
		if err != nil {
			return err
		}
		get.Stop()
		o.row("shoal", took, away.tun.came()-before, samples, most)
		if err := os.Remove(out); err != nil { // what is there would not be fetched again
			return err
		}
	}
	return nil
}

func (o options) row(what string, took time.Duration, came int64, samples []sample, most int64) {
	way := o.rate * 1e6 / 8
	fmt.Printf("| %s | %d | %.0f | %v | %.1f | %.2f | %.2f | %.1f |\n", what, o.size, o.rate, o.delay, took.Seconds(), float64(came)/took.Seconds()/way, half(samples, way),
		float64(most)/(1<<20))
}

// bare copies as many bytes over one TCP connection.
func bare(ctx context.Context, o options, near, away *side) error {
	var l net.Listener
	var c net.Conn
	var err error
	near.do(func() { l, err = net.Listen("tcp", "10.77.0.1:0") })
	if err != nil {
		return err
	}
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.CopyN(c, zeros{}, int64(o.size))
			err = errors.Join(err, c.Close())
		}
		sent <- err
	}()
	began, before := time.Now(), away.tun.came()
	away.do(func() { c, err = net.DialTimeout("tcp", l.Addr().String(), 10*time.Second) })
	if err != nil {
		l.Close()
		return errors.Join(err, <-sent)
	}
	defer c.Close()
	watched := near.watch(ctx, away.tun)
	_, err = io.Copy(io.Discard, c)
	took := time.Since(began)
	most, samples := watched()
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	o.row("bare TCP", took, away.tun.came()-before, samples, most)
	return nil
}

// zeros is a file without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// sample is how many bytes had come by a time.
type sample struct {
	at   time.Time
	came int64
}

// half returns the part of the way that was used in the second half of the time.
func half(s []sample, way float64) float64 {
	if len(s) < 3 {
		return 0
	}
	a, z := s[len(s)/2], s[len(s)-1]
	return float64(z.came-a.came) / z.at.Sub(a.at).Seconds() / way
}

var connected = regexp.MustCompile(`bytes_sent:(\d+)(?: bytes_retrans:(\d+))? bytes_acked:(\d+)`)

// watch asks the kernel what is under way until the function that it returns is called, which returns the most of one connection.
func (s *side) watch(ctx context.Context, at *tun) func() (most int64, samples []sample) {
	ctx, cancel := context.WithCancel(ctx)
	var most int64
	var samples []sample
	var g sync.WaitGroup
	g.Go(func() {
		for lab.Sleep(ctx, 200*time.Millisecond) == nil {
			samples = append(samples, sample{time.Now(), at.came()})
			out, err := s.run(exec.CommandContext(ctx, "ss", "-tinH"))
			if err != nil {
				return
			}
			for _, m := range connected.FindAllStringSubmatch(out, -1) {
				sent, _ := strconv.ParseInt(m[1], 10, 64)
				again, _ := strconv.ParseInt(m[2], 10, 64)
				acked, _ := strconv.ParseInt(m[3], 10, 64)
				most = max(most, sent-again-acked)
			}
		}
	})
	return func() (int64, []sample) {
		cancel()
		g.Wait()
		return most, samples
	}
}
