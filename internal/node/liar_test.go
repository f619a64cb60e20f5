package node

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shoal/internal/content"
	"shoal/internal/exchange"
	"shoal/internal/identity"
	"shoal/internal/store"
)

// flipping is the bytes of a content, in each piece of which one bit is wrong.
type flipping struct {
	b []byte
	g content.Geometry
}

func (f flipping) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, f.b[off:])
	for i := range p[:n] {
		if at := off + int64(i); at%f.g.Piece == (at/f.g.Piece*7919)%f.g.Len(uint32(at/f.g.Piece)) {
			p[i] ^= 1 << (at % 8)
		}
	}
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

// lie makes a member offer a content that it gives wrongly.
func lie(t *testing.T, m *Member, b []byte, manifest *content.Manifest, name string) {
	t.Helper()
	nothing := func() {}
	m.x.Add(&exchange.Content{
		ID: manifest.ID, Manifest: manifest, Source: flipping{b, manifest.Geo}, Complete: nothing,
		Fetched: func(*content.Manifest) {}, Failed: func(error) {},
	})
	m.client.Hold(manifest.ID, manifest.Geo.Size, true)
	record, err := m.cfg.Swarm.SignRecord(name, manifest.ID, manifest.Geo.Size)
	if err != nil {
		t.Fatal(err)
	}
	m.client.Offer(record)
}

func TestALiarAmongHonestOnesIsNamedAndCutOff(t *testing.T) {
	l := newLab(t)
	path, want := l.file(8 << 20)
	var id content.Prefix
	var manifest *content.Manifest
	for range 3 {
		m := l.run(l.machine(identity.MemberRole))
		s, err := m.Share(t.Context(), path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		id, manifest = prefixOf(s), s.Manifest
	}
	liar := l.run(l.machine(identity.MemberRole))
	lie(t, liar, want, manifest, "f.bin")
	wasted := false
	for range 5 { // it may be that nothing was asked of the liar
		b := l.run(l.machine(identity.MemberRole))
		var notes []string
		dir := t.TempDir()
		f := b.NewFetch(FetchRequest{ID: id, Dir: dir, Note: func(s string) { notes = append(notes, s) }})
		got, err := f.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); !bytes.Equal(have, want) {
			t.Fatal("the file is wrong")
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		b.ss.mu.Lock()
		banned := b.ss.banned[liar.Self()]
		b.ss.mu.Unlock()
		// What it was believed for: its promises under way when it was found out.
		if most := 9 * manifest.Geo.Piece; got.Wasted > most {
			t.Errorf("%d bytes were wasted, at most %d may be", got.Wasted, most)
		}
		if got.Wasted > 0 && (banned.IsZero() || len(notes) == 0) {
			t.Errorf("the liar is not banned, or not named: %v, %q", banned, notes)
		}
		if wasted = wasted || got.Wasted > 0; wasted {
			return
		}
	}
	t.Error("the liar was never asked: this tests nothing")
}

func TestADownloadWhoseOnlySourceLiesEndsAndKeepsWhatIsVerified(t *testing.T) {
	l := newLab(t)
	path, want := l.file(4 << 20)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	manifest, err := store.Hash(t.Context(), f, int64(len(want)), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	lie(t, l.run(l.machine(identity.MemberRole)), want, manifest, "f.bin")
	b := l.run(l.machine(identity.MemberRole))
	dir := t.TempDir()
	fetch := b.NewFetch(FetchRequest{Name: "f.bin", Dir: dir})
	_, err = fetch.Run(t.Context())
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || len(corrupt.Who) != 1 || corrupt.Left != manifest.Geo.Pieces {
		t.Errorf("got %v", err)
	}
	if err := fetch.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f.bin")); err == nil {
		t.Error("there is a file")
	}
}

// Three that fetch at once from one give each other what they have.
func TestThoseWhoFetchGiveToEachOther(t *testing.T) {
	l := newLab(t)
	path, want := l.file(24 << 20)
	a := l.run(l.machine(identity.MemberRole))
	s, err := a.Share(t.Context(), path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	var gave []*Member
	for range 4 {
		b := l.run(l.machine(identity.MemberRole))
		gave = append(gave, b)
		dir := t.TempDir()
		go func() {
			f := b.NewFetch(FetchRequest{ID: prefixOf(s), Dir: dir})
			_, err := f.Run(t.Context())
			if have, _ := os.ReadFile(filepath.Join(dir, "f.bin")); err == nil && !bytes.Equal(have, want) {
				err = errors.New("the file is wrong")
			}
			if err == nil {
				f.Give(context.Background(), false)
			}
			done <- errors.Join(err, f.Close())
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if !slices.ContainsFunc(gave, func(m *Member) bool { return m.Sent() > 0 }) {
		t.Errorf("only the source gave: %d bytes", a.Sent())
	}
}
