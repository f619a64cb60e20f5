package store

import (
	"io/fs"
	"slices"
	"sync"
)

// maxOpenFiles bounds the files that a directory has open at once, beside those that are just used.
const maxOpenFiles = 64

// openFiles opens the files of a directory when they are needed, by their number, and keeps those that were opened last. Its methods may
// be called from any goroutine.
type openFiles[F interface{ Close() error }] struct {
	open func(i int32) (F, error)

	mu     sync.Mutex // guards what follows
	files  map[int32]*openFile[F]
	order  []int32 // of those in files, by when they were opened
	closed bool
}

type openFile[F any] struct {
	once  sync.Once // opens it
	f     F
	err   error
	users int  // guarded by the mutex of openFiles
	gone  bool // it is not in files any more: its last user closes it; guarded by the same
}

func newOpenFiles[F interface{ Close() error }](open func(int32) (F, error)) *openFiles[F] {
	return &openFiles[F]{open: open, files: make(map[int32]*openFile[F])}
}

// use calls do with an open file.
func (o *openFiles[F]) use(i int32, do func(F) error) error {
	f, err := o.take(i)
	if err != nil {
		return err
	}
	f.once.Do(func() { f.f, f.err = o.open(i) })
	if err = f.err; err == nil {
		err = do(f.f)
	}
	o.release(i, f)
	return err
}

func (o *openFiles[F]) take(i int32) (*openFile[F], error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, fs.ErrClosed
	}
	f := o.files[i]
	if f == nil {
		if len(o.order) >= maxOpenFiles {
			o.forget(o.order[0])
		}
		f = new(openFile[F])
		o.files[i] = f
		o.order = append(o.order, i)
	}
	f.users++
	return f, nil
}

// forget takes a file out; who uses it last closes it. The lock is held.
func (o *openFiles[F]) forget(i int32) {
	f := o.files[i]
	delete(o.files, i)
	o.order = slices.DeleteFunc(o.order, func(n int32) bool { return n == i })
	if f.gone = true; f.users == 0 && f.err == nil {
		f.f.Close()
	}
}

func (o *openFiles[F]) release(i int32, f *openFile[F]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f.users--
	switch {
	case f.gone && f.users == 0 && f.err == nil:
		f.f.Close()
	case f.err != nil && !f.gone: // it is tried again
		o.forget(i)
	}
}

// drop closes what nobody uses, and opens it again when it is needed.
func (o *openFiles[F]) drop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.order) > 0 {
		o.forget(o.order[0])
	}
}

// close closes all. What is used is closed by its last user.
func (o *openFiles[F]) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for len(o.order) > 0 {
		o.forget(o.order[0])
	}
}
