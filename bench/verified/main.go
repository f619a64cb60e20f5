//go:build linux

// Command verified measures a download in a swarm against a bare TLS 1.3 copy of the same bytes.
//
//	go run ./bench/verified [-size 4294967296] [-dir /dev/shm] [-pairs 5] [-holders 1,4]
//
// Method. A file of random bytes is made in the folder; it stays in the page cache. For each number of holders, pairs follow each
// other, and whoever went first in one pair goes second in the next:
//
//   - A bare copy: a process that sends the file over one TLS 1.3 connection in writes of 256 KiB, and one that receives it into a
//     new file of the same folder. Its time counts from the start of the receiving process to its end.
//   - Our download: a machine that shares (its swarm server is another process), more that hold the same file, and shoal get, which looks for the
//     file, fetches the manifest, verifies each piece, syncs, and gives the file its name. Its time counts from the start of that process
//     to its end, and apart from that from its event "start" to its event "done".
//
// Figures are medians over the pairs; ratios are medians of each pair's own. Processor seconds are user and system time of both sides.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
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
)

const writeSize = 256 << 10

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "verified:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == "send" {
		return send(ctx, args[1])
	}
	if len(args) == 3 && args[0] == "receive" {
		return receive(args[1], args[2])
	}
	f := flag.NewFlagSet("verified", flag.ContinueOnError)
	size := f.Int64("size", 4<<30, "bytes of the file")
	dir := f.String("dir", "/dev/shm", "folder to copy in")
	pairs := f.Int("pairs", 5, "pairs of a bare copy and a download")
	holders := f.String("holders", "1,4", "numbers of sharing peers")
	if err := f.Parse(args); err != nil {
		return err
	}
	work, err := os.MkdirTemp(*dir, "shoal-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := &bench{dir: work, source: filepath.Join(work, "source.bin"), size: *size}
	if b.shoal, err = lab.Build(ctx, work); err != nil {
		return err
	}
	if err := makeFile(b.source, *size); err != nil {
		return err
	}
	fmt.Printf("Machine: %s\n\n### %s, %.3g GB\n\n", lab.Machine(), lab.Filesystem(*dir), float64(*size)/1e9)
	fmt.Println("| holders | bare TLS s | whole s | start to done s | ratio whole | ratio start to done | CPU s/GB bare send, receive | ours get, shares | peak MiB of get |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for s := range strings.SplitSeq(*holders, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return err
		}
		if err := b.series(ctx, n, *pairs); err != nil {
			return err
		}
	}
	return nil
}

type bench struct {
	shoal, dir, source string
	size               int64
}

// series measures pairs, and prints a row.
func (b *bench) series(ctx context.Context, holders, pairs int) error {
	s := &series{bench: b}
	defer s.stop()
	if err := s.start(ctx, holders); err != nil {
		return err
	}
	var bare, ours []taken
	for i := range pairs + 1 {
		var one, other taken
		first, second := func() error { return s.copyBare(ctx, &one) }, func() error { return s.download(ctx, &other) }
		if i%2 == 1 {
			first, second = second, first
		}
		if err := errors.Join(first(), second()); err != nil {
			return err
		}
		if i > 0 { // the first warms up
			bare, ours = append(bare, one), append(ours, other)
		}
	}
	gb := float64(b.size) / 1e9
	over := func(of func(i int) float64) lab.Spread {
		values := make([]float64, pairs)
		for i := range values {
			values[i] = of(i)
		}
		return lab.Summarize(values)
	}
	whole := over(func(i int) float64 { return bare[i].wall.Seconds() / ours[i].wall.Seconds() })
	inner := over(func(i int) float64 { return bare[i].wall.Seconds() / ours[i].inner.Seconds() })
	fmt.Printf("| %d | %.2f | %.2f | %.2f | %.2f (%.2f to %.2f) | %.2f (%.2f to %.2f) | %.2f, %.2f | %.2f, %.2f | %.0f |\n", holders,
		over(func(i int) float64 { return bare[i].wall.Seconds() }).Median,
		over(func(i int) float64 { return ours[i].wall.Seconds() }).Median,
		over(func(i int) float64 { return ours[i].inner.Seconds() }).Median,
		whole.Median, whole.Min, whole.Max, inner.Median, inner.Min, inner.Max,
		over(func(i int) float64 { return bare[i].giver.Seconds() / gb }).Median,
		over(func(i int) float64 { return bare[i].taker.Seconds() / gb }).Median,
		over(func(i int) float64 { return ours[i].taker.Seconds() / gb }).Median,
		over(func(i int) float64 { return ours[i].giver.Seconds() / gb }).Median,
		over(func(i int) float64 { return float64(ours[i].peak) / (1 << 20) }).Max)
	return nil
}

// taken is what one copy took: time in all, and from the event "start" to "done"; processor time of those who give and of who takes, whose
// peak memory is in bytes.
type taken struct {
	wall, inner  time.Duration
	giver, taker time.Duration
	peak         int64
}

// series is who takes part: a sender for bare copies, a swarm server, peers that share, and the state of one that fetches.
type series struct {
	*bench
	all    []*lab.Process
	self   string
	sender *lab.Process
	addr   string // of the sender
	shares []*lab.Process
	getter string
}

func (s *series) stop() {
	for _, p := range slices.Backward(s.all) {
		p.Stop()
	}
}

// launch starts a process, and returns its first event of a kind.
func (s *series) launch(ctx context.Context, event, path string, args ...string) (*lab.Process, lab.Event, error) {
	p, err := lab.Start(ctx, s.dir, path, args...)
	if err != nil {
		return nil, lab.Event{}, err
	}
	s.all = append(s.all, p)
	e, err := p.Await(event)
	return p, e, err
}

func (s *series) start(ctx context.Context, holders int) (err error) {
	if s.self, err = os.Executable(); err != nil {
		return err
	}
	sender, at, err := s.launch(ctx, "listening", s.self, "send", s.source)
	if err != nil {
		return err
	}
	s.sender, s.addr = sender, at.Addr
	state := func(i int) string { return filepath.Join(s.dir, "state"+strconv.Itoa(i)) }
	if _, _, err := s.launch(ctx, "listening", s.shoal, "server", "--json", "--state", state(0), "--listen", "127.0.0.1:0"); err != nil {
		return err
	}
	link, err := exec.CommandContext(ctx, s.shoal, "link", "-q", "--state", state(0)).Output()
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	for i := range holders + 1 {
		if err := exec.CommandContext(ctx, s.shoal, "join", "-q", "--state", state(i+1), strings.TrimSpace(string(link))).Run(); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	for i := range holders {
		p, _, err := s.launch(ctx, "sharing", s.shoal, "share", s.source, "--json", "--state", state(i+1), "--listen", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.shares = append(s.shares, p)
	}
	s.getter = state(holders + 1)
	return nil
}

// copyBare is a copy over one TLS connection.
func (s *series) copyBare(ctx context.Context, t *taken) error {
	before, err := lab.CPU(s.sender.PID())
	if err != nil {
		return err
	}
	to := filepath.Join(s.dir, "bare.bin")
	p, err := lab.Start(ctx, s.dir, s.self, "receive", s.addr, to)
	if err != nil {
		return err
	}
	x, err := p.Wait()
	if err != nil {
		return err
	}
	after, err := lab.CPU(s.sender.PID())
	*t = taken{wall: x.Wall, giver: after - before, taker: x.CPU}
	return errors.Join(err, os.Remove(to))
}

// download is one in the swarm.
func (s *series) download(ctx context.Context, t *taken) error {
	before, err := total(s.shares)
	if err != nil {
		return err
	}
	to := filepath.Join(s.dir, "ours.bin")
	p, err := lab.Start(ctx, s.dir, s.shoal, "get", "source.bin", "--once", "--overwrite", "--json", "--state", s.getter, "--listen", "127.0.0.1:0", "-o", to)
	if err != nil {
		return err
	}
	start, err := p.Await("start")
	if err != nil {
		return err
	}
	done, err := p.Await("done")
	if err != nil {
		return err
	}
	x, err := p.Wait()
	if err != nil {
		return err
	}
	after, err := total(s.shares)
	*t = taken{
		wall: x.Wall, inner: done.At - start.At + 50*time.Millisecond, // the event may be that late
		giver: after - before, taker: x.CPU, peak: x.Peak,
	}
	return errors.Join(err, os.Remove(to))
}

// total returns the processor time of all.
func total(ps []*lab.Process) (sum time.Duration, err error) {
	for _, p := range ps {
		d, err := lab.CPU(p.PID())
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

func makeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(f, mrand.NewChaCha8([32]byte{1}), size); err != nil {
		return err
	}
	return f.Close()
}

// send sends a file to everyone who connects.
func send(ctx context.Context, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	event, _ := json.Marshal(lab.Event{T: "listening", Addr: ln.Addr().String()})
	fmt.Println(string(event))
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		if err := sendOne(tls.Server(conn, cfg), path); err != nil {
			return err
		}
	}
}

func sendOne(conn *tls.Conn, path string) error {
	defer conn.Close()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return pump(conn, f)
}

// pump copies with plain reads and writes of writeSize.
func pump(to io.Writer, from io.Reader) error {
	buf := make([]byte, writeSize)
	for {
		n, err := io.ReadFull(from, buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// receive takes a file.
func receive(addr, path string) error {
	conn, err := tls.Dial("tcp", addr, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pump(f, conn); err != nil {
		return err
	}
	return f.Close()
}
