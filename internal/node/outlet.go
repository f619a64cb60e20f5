package node

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"time"

	"shoal/internal/bundle"
	"shoal/internal/store"
)

// outlet writes a content to a stream while it comes: verified bytes, in order; of a directory a tar archive.
type outlet struct {
	d    *store.Download
	out  io.Writer
	size int64
	buf  []byte
	done chan error // holds one when all is written, or cannot be
}

// OutError is a stream that cannot be written to.
type OutError struct{ Err error }

func (e *OutError) Error() string { return fmt.Sprintf("write to standard output: %v", e.Err) }
func (e *OutError) Unwrap() error { return e.Err }

// startOut begins to write. The goroutine ends with the download, or as soon as a write that nobody takes has ended: that of a pipe cannot be
// interrupted, and the process may end before it.
func (f *Fetch) startOut(ctx context.Context) (stop func()) {
	o := &outlet{d: f.d, out: f.req.Out, size: f.d.WantedBytes(), buf: make([]byte, 256<<10), done: make(chan error, 1)}
	f.out = o
	ctx, stop = context.WithCancel(ctx)
	go func() {
		write := o.file
		if f.dir {
			write = o.directory
		}
		err := write(ctx)
		if o.done <- err; err != nil {
			select {
			case f.failed <- err:
			default:
			}
		}
	}()
	return stop
}

// wait waits until all is written.
func (o *outlet) wait(ctx context.Context) error {
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (o *outlet) file(ctx context.Context) error { return o.copy(ctx, o.out, 0, o.size) }

// copy writes a range of the stream, as it comes.
func (o *outlet) copy(ctx context.Context, w io.Writer, off, n int64) error {
	for n > 0 {
		b := o.buf[:min(n, int64(len(o.buf)))]
		if err := o.d.Await(ctx, off, int64(len(b))); err != nil {
			return err
		}
		if _, err := o.d.ReadAt(b, off); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return &OutError{err}
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// directory writes an archive of what was chosen.
func (o *outlet) directory(ctx context.Context) error {
	w := tar.NewWriter(o.out)
	now := time.Now().Truncate(time.Second)
	l, chosen := o.d.Listing()
	err := l.Each(func(i int, path string) error {
		if !chosen[i] {
			return nil
		}
		e := &l.Entries[i]
		h := &tar.Header{Name: path, Mode: int64(e.Perm), ModTime: now}
		switch e.Kind {
		case bundle.File:
			h.Typeflag, h.Size = tar.TypeReg, e.Size
		case bundle.Dir:
			h.Typeflag, h.Name = tar.TypeDir, path+"/"
		case bundle.Link:
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, e.Target, 0o777
		}
		if err := w.WriteHeader(h); err != nil {
			return &OutError{err}
		}
		return o.copy(ctx, w, e.Off, e.Size)
	})
	if err == nil {
		if err = w.Close(); err != nil {
			err = &OutError{err}
		}
	}
	return err
}
