//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"shoal/internal/content"
)

func TestOnlyRightAndWholePiecesCount(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole := bytes.Repeat([]byte{7}, 2*content.MinPiece+5)
	wrong := bytes.Clone(whole)
	wrong[content.MinPiece+1] = 8
	source := write("source", whole)
	for name, c := range map[string]struct {
		path string
		want int64
	}{
		"all of it":           {write("all", whole), 2*content.MinPiece + 5},
		"one is wrong":        {write("wrong", wrong), content.MinPiece + 5},
		"the end is missing":  {write("short", whole[:2*content.MinPiece-1]), content.MinPiece},
		"more than all of it": {write("long", append(bytes.Clone(whole), 7)), 2 * content.MinPiece},
		"no file":             {filepath.Join(dir, "none"), 0},
		"no path":             {"", 0},
	} {
		if got, err := wholePieces(c.path, source); err != nil || got != c.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, c.want)
		}
	}
}
