package demo

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The whole swarm in one process, under the race detector: and nothing of it is left, neither goroutines nor files.
func TestASwarmDownloadsProvesAndCleansUp(t *testing.T) {
	for _, classic := range []bool{false, true} {
		t.Run(map[bool]string{false: "verified", true: "classic"}[classic], func(t *testing.T) { show(t, classic) })
	}
}

func show(t *testing.T, classic bool) {
	dir := t.TempDir()
	r, err := New(Config{Size: 100_000_003, Seeds: 4, Getters: 3, Dir: dir, Classic: classic}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Size != 100_000_003 || len(r.Getters) != 3 || len(r.Sent) != 4 {
		t.Errorf("%+v", r)
	}
	for i, got := range r.Getters {
		if got.Fetched < r.Size || got.Sources < 2 {
			t.Errorf("getter %d: %+v", i, got)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFileOfOnesOwnIsSharedAndStays(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{File: file, Seeds: 1, Getters: 1, Dir: dir}).Run(t.Context())
	if err != nil || r.Name != "mine" || r.Size != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	if b, _ := os.ReadFile(file); string(b) != "mine" {
		t.Error("the file that was shared has changed")
	}
}
