package daemon

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk on which not everything fits: what does not waits, leaves nothing there, keeps nobody from what does, and goes on by itself.
func TestADownloadWaitsForSpaceAndGoesOn(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skip("left out: only root can mount a small disk: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	l := newLab(t)
	a, b := l.run(l.machine(), Settings{}), l.run(l.machine(), Settings{Reserve: 1 << 20})
	from := t.TempDir()
	for name, size := range map[string]int{"first": 5 << 20, "second": 4 << 20, "small": 100_000, "large": 7<<20 + 1<<19} {
		content := make([]byte, size)
		rand.Read(content)
		if err := os.WriteFile(filepath.Join(from, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		l.share(a, filepath.Join(from, name))
	}
	get := func(name string) Row {
		row, err := b.AddDownload(t.Context(), DownloadRequest{What: name, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return row
	}
	waits := func(row Row) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			d, err := b.Detail(t.Context(), row.ID)
			if err == nil && d.State == Waiting && d.DiskFull && d.Failure != nil {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("it does not wait for space: %+v, %v", d.Row, err)
			}
		}
	}
	first := get("first")
	b.becomes(t, first.ID, Complete)
	second, large := get("second"), get("large")
	waits(second)
	waits(large) // that would fit on the disk, but for what is to be left free
	small := get("small")
	b.becomes(t, small.ID, Complete)
	if there, err := os.ReadDir(dir); err != nil || len(there) != 2 {
		t.Errorf("what waits has left something: %v, %v", there, err)
	}
	if st, err := b.Stats(t.Context(), false); err != nil || st.Failed != 0 {
		t.Errorf("it counts as failed: %+v, %v", st, err)
	}
	// A pause and a resume make it try again, and wait again.
	if _, err := b.Pause(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Resume(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	waits(second)
	if err := b.Remove(t.Context(), first.ID, true); err != nil {
		t.Fatal(err)
	}
	b.becomes(t, second.ID, Complete)
	waits(large)
}
