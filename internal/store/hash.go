package store

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"shoal/internal/content"

	"golang.org/x/sync/errgroup"
)

// readSize is what is read at a time to be hashed: it stays in a core's cache.
const readSize = 256 << 10

// hasher is what one goroutine needs to hash pieces.
type hasher struct {
	h   content.PieceHash
	buf []byte // what is read from disk; nil: nothing was yet. A piece from the network, of which there are many, needs none
}

var hashers = sync.Pool{New: func() any { return new(hasher) }}

func (h *hasher) buffer() []byte {
	if h.buf == nil {
		h.buf = make([]byte, readSize)
	}
	return h.buf
}

// piece hashes a piece of r.
func (h *hasher) piece(r io.ReaderAt, g content.Geometry, piece uint32, progress func(int64)) error {
	h.h.Reset(g, piece)
	off, end := g.Offset(piece), g.Offset(piece)+g.Len(piece)
	for off < end {
		n, err := r.ReadAt(h.buffer()[:min(readSize, end-off)], off)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		_, _ = h.h.Write(h.buf[:n])
		off += int64(n)
		if progress != nil {
			progress(int64(n))
		}
	}
	return nil
}

// PartsOf returns the chaining values of the parts of a piece that r has.
func PartsOf(r io.ReaderAt, g content.Geometry, piece uint32) ([]content.CV, error) {
	h := hashers.Get().(*hasher)
	defer hashers.Put(h)
	if err := h.piece(r, g, piece, nil); err != nil {
		return nil, err
	}
	return slices.Clone(h.h.Parts()), nil
}

// eachPiece calls do for the pieces that are wanted, in order, by as many goroutines as there are workers.
func eachPiece(ctx context.Context, pieces uint32, workers int, wanted func(uint32) bool, do func(h *hasher, piece uint32) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Uint32
	g, ctx := errgroup.WithContext(ctx)
	for range min(workers, int(pieces)) {
		g.Go(func() error {
			h := hashers.Get().(*hasher)
			defer hashers.Put(h)
			for {
				piece := next.Add(1) - 1
				if piece >= pieces {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if wanted != nil && !wanted(piece) {
					continue
				}
				if err := do(h, piece); err != nil {
					return err
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return nil
}

// Hash makes the manifest of a content of a size, on as many cores as there are workers, 0 for all. It reads each byte once,
// but for the last piece. Progress, if it is not nil, is told from several goroutines how many more bytes were hashed.
func Hash(ctx context.Context, r io.ReaderAt, size int64, workers int, progress func(bytes int64)) (*content.Manifest, error) {
	g, err := content.GeometryOf(size)
	if err != nil {
		return nil, err
	}
	cvs := make([]content.CV, g.Pieces)
	err = eachPiece(ctx, g.Pieces, workers, nil, func(h *hasher, piece uint32) error {
		if err := h.piece(r, g, piece, progress); err != nil {
			return err
		}
		cvs[piece], _ = h.h.Sum()
		return nil
	})
	if err != nil {
		return nil, err
	}
	var last []byte
	if g.Pieces > 0 {
		last = make([]byte, g.Len(g.Pieces-1))
		if n, err := r.ReadAt(last, g.Offset(g.Pieces-1)); n < len(last) {
			return nil, fmt.Errorf("read the last piece: %w", err)
		}
		h := hashers.Get().(*hasher)
		defer hashers.Put(h)
		h.h.Reset(g, g.Pieces-1)
		_, _ = h.h.Write(last)
		if cv, _ := h.h.Sum(); cv != cvs[g.Pieces-1] {
			return nil, ErrChanged
		}
	}
	return content.NewManifest(g, cvs, last), nil
}

// matching returns which of the wanted pieces r has, as the manifest says.
func matching(ctx context.Context, r io.ReaderAt, m *content.Manifest, workers int, wanted func(uint32) bool, progress func(int64)) ([]bool, error) {
	have := make([]bool, m.Geo.Pieces)
	err := eachPiece(ctx, m.Geo.Pieces, workers, wanted, func(h *hasher, piece uint32) error {
		if h.piece(r, m.Geo, piece, progress) == nil { // what cannot be read is not there
			have[piece] = m.Verify(piece, &h.h)
		}
		return nil
	})
	return have, err
}
