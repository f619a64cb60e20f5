// Package demo is a whole swarm on one machine, with real sockets and real files: for people who want to see it work, and
// for tests. It uses the nodes and the server as they are, and knows nothing of terminals.
package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"

	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/swarm"

	"golang.org/x/sync/errgroup"
)

// Config says what a [Demo] shows.
type Config struct {
	File    string // what to share; empty: a file of Size random bytes
	Size    int64
	Seeds   int    // peers that share the file from the start
	Getters int    // peers that download it, all at once
	Dir     string // where to put a temporary folder, which goes at the end; empty: the system's place
	Log     *slog.Logger
}

// Demo is one run. Its methods may be called from any goroutine.
type Demo struct {
	cfg Config
	dir string

	mu        sync.Mutex // guards what follows
	step      string
	server    string
	seeds     []*node.Node
	downloads []*node.Download
}

// New makes a demo that does nothing until it is run.
func New(cfg Config) *Demo {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Demo{cfg: cfg, step: "preparing"}
}

// Result is what a demo has shown.
type Result struct {
	Name    string
	Size    int64
	SHA256  [32]byte       // of the file that was shared, and of each copy: they are equal, or Run fails
	Getters []*node.Result // in their order
	Sent    []int64        // bytes that each seed gave
}

// Snapshot is a demo at one moment.
type Snapshot struct {
	Step      string
	Server    string
	Downloads []node.Status
	Sent      []int64
}

// Snapshot returns how far the demo is.
func (d *Demo) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Snapshot{Step: d.step, Server: d.server}
	for _, dl := range d.downloads {
		s.Downloads = append(s.Downloads, dl.Status())
	}
	for _, n := range d.seeds {
		s.Sent = append(s.Sent, n.Stats().Sent)
	}
	return s
}

func (d *Demo) at(step string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step = step
}

// Run makes the swarm, lets all getters download, proves that what they have is what was shared, and cleans up.
func (d *Demo) Run(ctx context.Context) (r *Result, err error) {
	d.dir, err = os.MkdirTemp(d.cfg.Dir, "shoal-demo-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	file := d.cfg.File
	if file == "" {
		d.at("making a file")
		file = filepath.Join(d.dir, "demo.img")
		if err := generate(ctx, file, d.cfg.Size); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.server = ln.Addr().String()
	d.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return swarm.NewServer(swarm.ServerConfig{Log: d.cfg.Log}).Serve(ctx, ln) })
	g.Go(func() (err error) {
		defer cancel() // the server goes last
		r, err = d.play(ctx, file)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, nil
}

// play is the demo once the server runs.
func (d *Demo) play(ctx context.Context, file string) (*Result, error) {
	name := filepath.Base(file)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	d.at("sharing")
	ready := make(chan struct{}, d.cfg.Seeds)
	for range d.cfg.Seeds {
		n := node.New(node.Config{Server: d.server, Listen: "127.0.0.1:0", Log: d.cfg.Log})
		defer n.Close()
		if _, err := n.Share(file, name); err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.seeds = append(d.seeds, n)
		d.mu.Unlock()
		g.Go(func() error {
			return n.Run(ctx, func(ctx context.Context) error {
				ready <- struct{}{}
				<-ctx.Done()
				return nil
			})
		})
	}
	var r *Result
	g.Go(func() (err error) {
		defer cancel()
		for range d.cfg.Seeds {
			select {
			case <-ready:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r, err = d.download(ctx, file, name)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return r, nil
}

// download lets all getters fetch the file at once, and compares what they got.
func (d *Demo) download(ctx context.Context, file, name string) (*Result, error) {
	d.at("downloading")
	r := &Result{Name: name, Getters: make([]*node.Result, d.cfg.Getters)}
	g, gctx := errgroup.WithContext(ctx)
	for i := range d.cfg.Getters {
		dir := filepath.Join(d.dir, fmt.Sprintf("getter%d", i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		n := node.New(node.Config{Server: d.server, Listen: "127.0.0.1:0", Log: d.cfg.Log})
		defer n.Close()
		dl := n.NewDownload(node.Request{Name: name, Dir: dir})
		d.mu.Lock()
		d.downloads = append(d.downloads, dl)
		d.mu.Unlock()
		g.Go(func() error {
			return n.Run(gctx, func(ctx context.Context) (err error) {
				r.Getters[i], err = dl.Run(ctx)
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	r.Sent = d.Snapshot().Sent
	d.at("comparing")
	return r, r.prove(ctx, file)
}

// prove hashes the file that was shared and every copy.
func (r *Result) prove(ctx context.Context, file string) error {
	sum := sha256.New()
	if err := store.HashFile(ctx, file, sum, func(n int64) { r.Size += n }); err != nil {
		return err
	}
	r.SHA256 = [32]byte(sum.Sum(nil))
	for _, got := range r.Getters {
		sum.Reset()
		if err := store.HashFile(ctx, got.Path, sum, nil); err != nil {
			return err
		}
		if !bytes.Equal(sum.Sum(nil), r.SHA256[:]) {
			return fmt.Errorf("%s has SHA-256 %x, the file that was shared %x", got.Path, sum.Sum(nil), r.SHA256)
		}
	}
	return nil
}

// generate writes a file of random bytes.
func generate(ctx context.Context, path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.NewChaCha8([32]byte{'s', 'h', 'o', 'a', 'l'})
	buf := make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		buf = buf[:min(int64(len(buf)), left)]
		_, _ = io.ReadFull(random, buf)
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	return f.Close()
}
