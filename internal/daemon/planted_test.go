package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// One who may write to a watched folder, and not read a file elsewhere, does not get at it by giving it a name there.
func TestASecretThatWasLinkedIntoAFolderIsNotShared(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("who may not read a file cannot give it another name there")
	}
	l := newLab(t)
	secret, _ := l.file(1000)
	dir, old := t.TempDir(), time.Now().Add(-time.Hour)
	planted := filepath.Join(dir, "planted")
	if err := errors.Join(os.Link(secret, planted), os.Chtimes(secret, old, old)); err != nil {
		t.Fatal(err)
	}
	a := l.run(l.machine(), Settings{Folders: []string{dir}})
	var rows []Row
	for end := time.Now().Add(30 * time.Second); len(rows) == 0 || rows[0].State != Failed; time.Sleep(10 * time.Millisecond) {
		var err error
		if rows, _, err = a.List(t.Context(), 0, 100); err != nil || time.Now().After(end) {
			t.Fatalf("%v: %+v", err, rows)
		}
		if len(rows) > 0 && rows[0].State == Seeding {
			t.Fatal("it is shared")
		}
	}
	if d, err := a.Detail(t.Context(), rows[0].ID); err != nil || d.Failure == nil || !strings.Contains(d.Failure.What, planted) {
		t.Errorf("the user is told %+v, %v", d.Failure, err)
	}
}
