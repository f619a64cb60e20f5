package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shoal/internal/content"
	"shoal/internal/hostile"
	"shoal/internal/identity"
	"shoal/internal/store"
)

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
	l.attack(hostile.Poisoner, hostile.Giving, manifest)
	b := l.run(l.machine(identity.MemberRole))
	eventually(t, "it offers the file", func() bool {
		found, err := b.Find(t.Context(), "f.bin", content.Prefix{})
		return err == nil && len(found) > 0
	})
	dir := t.TempDir()
	fetch := b.NewFetch(FetchRequest{Name: "f.bin", Dir: dir})
	_, err = fetch.Run(t.Context())
	var corrupt *CorruptError
	// It gives on two connections, and may be found out on both at once.
	if !errors.As(err, &corrupt) || len(corrupt.Who) == 0 || len(corrupt.Who) > 2 || corrupt.Left != manifest.Geo.Pieces {
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
