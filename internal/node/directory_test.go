package node

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shoal/internal/bundle"
	"shoal/internal/content"
	"shoal/internal/identity"
	"shoal/internal/store"
	"shoal/internal/wire"
)

// tree makes a directory of a few files, small and large.
func (l *lab) tree() string {
	l.t.Helper()
	dir := filepath.Join(l.t.TempDir(), "d")
	for name, size := range map[string]int{"a.json": 10, "big.bin": 3 << 20, "sub/one": 100, "sub/two.json": 70000, "zero": 0} {
		b := bytes.Repeat([]byte(name), size/len(name)+1)[:size]
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			l.t.Fatal(err)
		}
	}
	return dir
}

func (l *lab) shareDir(m *Member, dir, name string) *Sharing {
	l.t.Helper()
	scanned, err := store.Scan(l.t.Context(), dir)
	if err != nil {
		l.t.Fatal(err)
	}
	s, err := m.ShareDir(l.t.Context(), scanned, name, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// get fetches, and leaves the fetch open until the test ends.
func (l *lab) get(m *Member, req FetchRequest) (*Fetched, error) {
	l.t.Helper()
	f := m.NewFetch(req)
	got, err := f.Run(l.t.Context())
	l.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return got, err
}

// equalTrees compares the files of two directories, or those of the second that the first has.
func equalTrees(t *testing.T, got, want string, all bool) (files int) {
	t.Helper()
	err := filepath.WalkDir(want, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(want, path)
		a, err := os.ReadFile(filepath.Join(got, name))
		if errors.Is(err, fs.ErrNotExist) && !all {
			return nil
		}
		b, _ := os.ReadFile(path)
		if files++; err != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %d bytes, want %d (%v)", name, len(a), len(b), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// B has only a part of a directory, and says so; C gets that part of it when A is gone.
func TestAPartOfADirectoryIsPassedOn(t *testing.T) {
	l := newLab(t)
	src := l.tree()
	a := NewMember(MemberConfig{Swarm: l.machine(identity.MemberRole), Listen: "127.0.0.1:0"})
	gone := make(chan struct{})
	shared, stopped := make(chan *Sharing), make(chan error, 1)
	go func() {
		stopped <- a.Run(t.Context(), func(context.Context) error {
			shared <- l.shareDir(a, src, "d")
			<-gone
			return nil
		})
	}()
	s := <-shared
	only := bundle.Selection{Only: []string{"*.json"}}
	b, c := l.run(l.machine(identity.MemberRole)), l.run(l.machine(identity.MemberRole))
	first, second := t.TempDir(), t.TempDir()
	got, err := l.get(b, FetchRequest{Name: "d", Dir: first, Selection: only})
	if err != nil || !got.Directory || !got.Partly {
		t.Fatalf("%+v, %v", got, err)
	}
	if n := equalTrees(t, filepath.Join(first, "d"), src, false); n != 2 {
		t.Errorf("%d files came", n)
	}
	close(gone)
	if err := errors.Join(<-stopped, a.Close()); err != nil {
		t.Fatal(err)
	}
	var entries []wire.Entry
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(20 * time.Millisecond) { // until the server has seen A go
		if entries, err = c.Find(t.Context(), "d", content.Prefix{}); err != nil || len(entries) == 1 && entries[0].Holders == 1 {
			break
		}
	}
	if err != nil || len(entries) != 1 || entries[0].Seeds != 0 || entries[0].Holders != 1 || entries[0].Kind != wire.KindDirectory {
		t.Errorf("the swarm says %+v, %v", entries, err)
	}
	if _, err := l.get(c, FetchRequest{ID: prefixOf(s), Dir: second, Selection: only, Patience: 10 * time.Second}); err != nil {
		t.Fatal(err)
	}
	equalTrees(t, filepath.Join(second, "d"), filepath.Join(first, "d"), true)
	if _, err := l.get(c, FetchRequest{ID: prefixOf(s), Dir: t.TempDir(), Patience: time.Second}); !errors.Is(err, ErrHere) {
		t.Errorf("twice at once in one peer: %v", err)
	}
	if _, err := l.get(l.run(l.machine(identity.MemberRole)), FetchRequest{ID: prefixOf(s), Dir: t.TempDir(), Patience: time.Second}); !errors.Is(err, ErrNoProgress) {
		t.Errorf("what nobody has: %v", err)
	}
}

// A content is what who shares it says, whatever its bytes are.
func TestBytesDoNotMakeADirectory(t *testing.T) {
	l := newLab(t)
	src := l.tree()
	a := l.run(l.machine(identity.MemberRole))
	b := func() *Member { return l.run(l.machine(identity.MemberRole)) } // one for each: a member fetches a content once at a time
	dir := l.shareDir(a, src, "d")
	stream := make([]byte, dir.Manifest.Geo.Size)
	if _, err := dir.source.ReadAt(stream, 0); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(path, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	c := l.run(l.machine(identity.MemberRole))
	file, err := c.Share(t.Context(), path, "", nil)
	if err != nil || file.Manifest.ID != dir.Manifest.ID {
		t.Fatalf("%v, %v", file, err)
	}
	out := t.TempDir()
	got, err := l.get(b(), FetchRequest{Name: "stream", Dir: out})
	if err != nil || got.Directory {
		t.Fatalf("%+v, %v", got, err)
	}
	if have, _ := os.ReadFile(filepath.Join(out, "stream")); !bytes.Equal(have, stream) {
		t.Error("the file differs")
	}
	// The link decides.
	var notes []string
	got, err = l.get(b(), FetchRequest{Name: "d", ID: prefixOf(dir), FromLink: true, Dir: t.TempDir(), Note: func(s string) { notes = append(notes, s) }})
	if err != nil || got.Directory || len(notes) != 1 || !strings.Contains(notes[0], "a file") {
		t.Errorf("a link to a file: %+v, %v, %q", got, err, notes)
	}
	var kind *KindError
	if _, err := l.get(b(), FetchRequest{Name: "stream", Dir: t.TempDir(), Selection: bundle.Selection{Only: []string{"a"}}}); !errors.As(err, &kind) {
		t.Errorf("a part of a file: %v", err)
	}
	other, _ := l.file(100000)
	if file, err = c.Share(t.Context(), other, "f", nil); err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	if _, err := l.get(b(), FetchRequest{ID: prefixOf(file), FromLink: true, Directory: true, Dir: into}); !errors.Is(err, bundle.ErrListing) {
		t.Errorf("a file that is called a directory: %v", err)
	}
	if left, _ := os.ReadDir(into); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAStreamHasTheBytesInOrder(t *testing.T) {
	l := newLab(t)
	t.Setenv("TMPDIR", t.TempDir())
	a, b := l.run(l.machine(identity.MemberRole)), l.run(l.machine(identity.MemberRole))
	path, want := l.file(9<<20 + 17)
	file, err := a.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	f := b.NewFetch(FetchRequest{ID: prefixOf(file), Out: &out})
	if _, err := f.Run(t.Context()); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes came: %v", out.Len(), err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	src := l.tree()
	dir := l.shareDir(a, src, "d")
	out.Reset()
	f = b.NewFetch(FetchRequest{ID: prefixOf(dir), Out: &out, Selection: bundle.Selection{Except: []string{"one"}}})
	if _, err := f.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	files := 0
	for r := tar.NewReader(&out); ; files++ {
		h, err := r.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(r)
		if want, _ := os.ReadFile(filepath.Join(src, h.Name)); !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes", h.Name, len(got))
		}
	}
	if files != 5 { // a directory among them
		t.Errorf("%d entries", files)
	}
	// Who reads it goes.
	r, w := io.Pipe()
	r.CloseWithError(fs.ErrClosed)
	f = b.NewFetch(FetchRequest{ID: prefixOf(file), Out: w})
	var gone *OutError
	if _, err := f.Run(t.Context()); !errors.As(err, &gone) {
		t.Errorf("%v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
