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

	"shoal/internal/identity"
	"shoal/internal/store"

	"golang.org/x/sync/errgroup"
)

// Config says what a [Demo] shows.
type Config struct {
	File    string // what to share; empty: a file of Size random bytes
	Size    int64
	Seeds   int    // peers that share the file from the start
	Getters int    // peers that download it, all at once
	Dir     string // where to put a temporary folder, which goes at the end; empty: the system's place
	Classic bool   // with the classic protocol; otherwise each peer is a member of a swarm that is made for this
	Log     *slog.Logger
}

// Demo is one run. Its methods may be called from any goroutine.
type Demo struct {
	cfg Config
	dir string

	mu        sync.Mutex // guards what follows
	step      string
	server    string
	swarm     *identity.Swarm // unless classic
	joined    int
	sent      []func() int64 // what each seed has given
	downloads []func() Progress
}

// Progress is one download at one moment.
type Progress struct {
	Done, Size int64
	Rate       float64 // bytes per second
	Sources    int
	Complete   bool
}

// Got is one download that is complete.
type Got struct {
	Path    string
	Fetched int64
	Sources int
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
	SHA256  [32]byte // of the file that was shared, and of each copy: they are equal, or Run fails
	Getters []Got    // in their order
	Sent    []int64  // bytes that each seed gave
}

// Snapshot is a demo at one moment.
type Snapshot struct {
	Step      string
	Server    string
	Downloads []Progress
	Sent      []int64
}

// Snapshot returns how far the demo is.
func (d *Demo) Snapshot() Snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := Snapshot{Step: d.step, Server: d.server}
	for _, progress := range d.downloads {
		s.Downloads = append(s.Downloads, progress())
	}
	for _, sent := range d.sent {
		s.Sent = append(s.Sent, sent())
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
	serve, err := d.newServer(ln)
	if err != nil {
		ln.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx) })
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
		seed, err := d.newSeed(ctx, file, name)
		if err != nil {
			return nil, err
		}
		defer seed.close()
		d.mu.Lock()
		d.sent = append(d.sent, seed.sent)
		d.mu.Unlock()
		g.Go(func() error {
			return seed.run(ctx, func() { ready <- struct{}{} })
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
	r := &Result{Name: name, Getters: make([]Got, d.cfg.Getters)}
	g, gctx := errgroup.WithContext(ctx)
	for i := range d.cfg.Getters {
		dir := filepath.Join(d.dir, fmt.Sprintf("getter%d", i+1))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		getter, err := d.newGetter(ctx, name, dir)
		if err != nil {
			return nil, err
		}
		defer getter.close()
		d.mu.Lock()
		d.downloads = append(d.downloads, getter.progress)
		d.mu.Unlock()
		g.Go(func() (err error) {
			r.Getters[i], err = getter.run(gctx)
			return err
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
