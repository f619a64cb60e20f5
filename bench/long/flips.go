//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"shoal/internal/content"
	"shoal/internal/store"
)

var flipStage = stage{
	name: "flips", minutes: 2,
	does: "one wrong bit in what another gives: a piece as it comes and is written, a manifest",
	run:  runFlips, figures: flipFigures,
}

const flipGoal = 1e6

// runFlips gives pieces with one wrong bit to downloads onto a real disk, and manifests to who asked for them. It ends with the right bytes,
// which all must have come through unharmed.
func runFlips(ctx context.Context, w *work) error {
	rest := w.rest("flips", flipGoal)
	var failed error
	w.each(ctx, w.procs, func(worker int) bool {
		if err := w.flip(ctx, worker, rest/w.procs+1); err != nil {
			failed = err
		}
		return false
	})
	return failed
}

func (w *work) flip(ctx context.Context, worker, times int) error {
	chance := rand.New(rand.NewPCG(w.seed, uint64(worker)))
	want := make([]byte, 3*content.MinPiece+int(chance.Int32N(content.MinPiece)))
	for i := range want {
		want[i] = byte(chance.Uint32())
	}
	m, err := store.Hash(ctx, bytes.NewReader(want), int64(len(want)), 1, nil)
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, fmt.Sprint(worker))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	d, err := store.OpenDownload(ctx, store.DownloadConfig{Dir: dir, Target: "f", Manifest: m, Key: "k", Workers: 1})
	if err != nil {
		return err
	}
	defer d.Close()
	encoded := m.Append(nil)
	for i := 0; i < times && ctx.Err() == nil; i++ {
		var err error
		if i%10 == 0 {
			bit := chance.IntN(8 * len(encoded))
			encoded[bit/8] ^= 1 << (bit % 8)
			_, err = content.ParseManifest(m.ID, encoded)
			encoded[bit/8] ^= 1 << (bit % 8)
			w.count("in manifests", 1)
		} else {
			piece := chance.Uint32N(m.Geo.Pieces)
			b := want[m.Geo.Offset(piece):][:m.Geo.Len(piece)]
			bit := chance.IntN(8 * len(b))
			b[bit/8] ^= 1 << (bit % 8)
			err = give(d, piece, b, chance)
			b[bit/8] ^= 1 << (bit % 8)
			w.count("in pieces", 1)
		}
		w.count("flips", 1)
		if !errors.Is(err, store.ErrBadPiece) && !errors.Is(err, content.ErrManifest) {
			w.count("accepted", 1)
			w.fail("seed %d, worker %d, flip %d: %v", w.seed, worker, i, err)
		}
	}
	for piece := range m.Geo.Pieces {
		if err := give(d, piece, want[m.Geo.Offset(piece):][:m.Geo.Len(piece)], chance); err != nil {
			return fmt.Errorf("the right bytes: %w", err)
		}
	}
	if err := d.Complete(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || !bytes.Equal(got, want) {
		w.fail("seed %d, worker %d: the file is wrong in the end (%v)", w.seed, worker, err)
	}
	return ctx.Err()
}

// give writes a piece in frames of any length. That it is not right is an error, and so is that it counts.
func give(d *store.Download, piece uint32, b []byte, chance *rand.Rand) error {
	to := d.Begin(piece)
	for len(b) > 0 {
		n := min(len(b), 1+chance.IntN(64<<10))
		if err := to.Write(b[:n]); err != nil {
			to.Abort()
			return err
		}
		b = b[n:]
	}
	if first, err := to.Commit(); err != nil || !first {
		if d.Have(piece) {
			return errors.New("it counts, whatever was said")
		}
		return err
	}
	return nil
}

func flipFigures(t totals) []figure {
	return []figure{atLeast("G8", "bits flipped, one at a time", t.counts["flips"], flipGoal), none("G8", "of them accepted", t.counts["accepted"])}
}
