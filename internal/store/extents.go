package store

import (
	"errors"
	"io"
	"sort"

	"shoal/internal/bundle"
	"shoal/internal/content"
)

// extent says where a range of a stream lies.
type extent struct {
	off, end int64 // in the stream
	at       int64 // in the file
	file     int32 // an entry of the listing, or one of those below
}

// What holds a range of a directory's stream beside its files.
const (
	inHead int32 = -1 // the listing
	inRest int32 = -2 // bytes of files that are not wanted, in pieces that are
)

// errGap is a range of a stream of which nothing is here.
var errGap = errors.New("store: that part of the stream is not here")

// extents are in the order of the stream, and do not overlap.
type extents []extent

// from returns the number of the first extent that ends behind an offset.
func (x extents) from(off int64) int {
	return sort.Search(len(x), func(i int) bool { return x[i].end > off })
}

// each calls do for the parts of a range: where each lies, and which bytes of the range it is.
func (x extents) each(off, n int64, do func(file int32, at, from, to int64) error) error {
	for i, done := x.from(off), int64(0); done < n; i++ {
		if i == len(x) || x[i].off > off+done {
			return errGap
		}
		e := x[i]
		to := min(n, e.end-off)
		if err := do(e.file, e.at+off+done-e.off, done, to); err != nil {
			return err
		}
		done = to
	}
	return nil
}

// covers says whether all of a piece is here.
func (x extents) covers(g content.Geometry, piece uint32) bool {
	return x.each(g.Offset(piece), g.Len(piece), func(int32, int64, int64, int64) error { return nil }) == nil
}

// read reads a part of a file into b, whole.
func read(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// piecesOf returns the first piece in which bytes of a file are, and the last one.
func piecesOf(g content.Geometry, e *bundle.Entry) (first, last uint32) {
	return uint32(e.Off / g.Piece), uint32((e.Off + e.Size - 1) / g.Piece)
}
