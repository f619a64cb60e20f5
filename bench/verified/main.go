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
	self, err := os.Executable()
	if err != nil {
		return err
	}
	sender, err := lab.Start(ctx, b.dir, self, "send", b.source)
	if err != nil {
		return err
	}
	defer sender.Stop()
	at, err := sender.Await("listening")
	if err != nil {
		return err
	}
	state := func(i int) string { return filepath.Join(b.dir, "state"+strconv.Itoa(i)) }
	server, err := lab.Start(ctx, b.dir, b.shoal, "server", "--json", "--state", state(0), "--listen", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Stop()
	if _, err := server.Await("listening"); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, b.shoal, "link", "-q", "--state", state(0)).Output()
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	var shares []*lab.Process
	for i := range holders + 1 {
		if err := exec.CommandContext(ctx, b.shoal, "join", "-q", "--state", state(i+1), strings.TrimSpace(string(out))).Run(); err != nil {
			return fmt.Errorf("join: %w", err)
		}
		if i == holders {
			break
		}
		p, err := lab.Start(ctx, b.dir, b.shoal, "share", b.source, "--json", "--state", state(i+1), "--listen", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer p.Stop()
		if _, err := p.Await("sharing"); err != nil {
			return err
		}
		shares = append(shares, p)
	}
	var bare, whole, inner, ratio, ratioInner, cpuSend, cpuRecv, cpuGet, cpuShare, peak []float64
	gb := float64(b.size) / 1e9
	for i := range pairs + 1 {
		var bs, ws, is float64
		copyBare := func() error {
			before, err := lab.CPU(sender.PID())
			if err != nil {
				return err
			}
			to := filepath.Join(b.dir, "bare.bin")
			p, err := lab.Start(ctx, b.dir, self, "receive", at.Addr, to)
			if err != nil {
				return err
			}
			x, err := p.Wait()
			if err != nil {
				return err
			}
			after, err := lab.CPU(sender.PID())
			bs = x.Wall.Seconds()
			if i > 0 {
				cpuSend, cpuRecv = append(cpuSend, (after-before).Seconds()/gb), append(cpuRecv, x.CPU.Seconds()/gb)
			}
			return errors.Join(err, os.Remove(to))
		}
		download := func() error {
			before, err := total(shares)
			if err != nil {
				return err
			}
			p, err := lab.Start(ctx, b.dir, b.shoal, "get", "source.bin", "--once", "--overwrite", "--json", "--state", state(holders+1), "--listen", "127.0.0.1:0",
				"-o", filepath.Join(b.dir, "ours.bin"))
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
			after, err := total(shares)
			ws, is = x.Wall.Seconds(), (done.At-start.At).Seconds()+0.05 // the event may be that late
			if i > 0 {
				cpuGet, cpuShare = append(cpuGet, x.CPU.Seconds()/gb), append(cpuShare, (after-before).Seconds()/gb)
				peak = append(peak, float64(x.Peak)/(1<<20))
			}
			return errors.Join(err, os.Remove(filepath.Join(b.dir, "ours.bin")))
		}
		first, second := copyBare, download
		if i%2 == 1 {
			first, second = download, copyBare
		}
		if err := errors.Join(first(), second()); err != nil {
			return err
		}
		if i > 0 {
			bare, whole, inner = append(bare, bs), append(whole, ws), append(inner, is)
			ratio, ratioInner = append(ratio, bs/ws), append(ratioInner, bs/is)
		}
	}
	m := func(v []float64) float64 { return lab.Summarize(v).Median }
	r, ri := lab.Summarize(ratio), lab.Summarize(ratioInner)
	fmt.Printf("| %d | %.2f | %.2f | %.2f | %.2f (%.2f to %.2f) | %.2f (%.2f to %.2f) | %.2f, %.2f | %.2f, %.2f | %.0f |\n", holders, m(bare), m(whole), m(inner),
		r.Median, r.Min, r.Max, ri.Median, ri.Min, ri.Max, m(cpuSend), m(cpuRecv), m(cpuGet), m(cpuShare), lab.Summarize(peak).Max)
	return nil
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
