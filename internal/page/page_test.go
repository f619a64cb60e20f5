package page_test

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"strings"
	"testing"

	"shoal/internal/page"
)

// maxWeight is what all files of both pages may have together, compressed.
const maxWeight = 60 << 10

// The pages are small, and no file of theirs names another place than its own.
func TestFilesAreFewAndNameNobody(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for _, root := range []fs.FS{page.Peer(), page.Server()} {
		index, err := fs.ReadFile(root, "index.html")
		if err != nil || !bytes.Contains(index, []byte("<!doctype html>")) {
			t.Fatalf("%s %v", index, err)
		}
	}
	err := fs.WalkDir(page.Peer(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(page.Peer(), path)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(b), "http://www.w3.org/2000/svg", "")
		for _, wrong := range []string{"http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "style="} {
			if strings.Contains(text, wrong) {
				t.Errorf("%s contains %s", path, wrong)
			}
		}
		_, err = z.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if packed.Len() > maxWeight {
		t.Errorf("the pages have %d bytes compressed, at most %d", packed.Len(), maxWeight)
	}
	t.Logf("%d bytes compressed", packed.Len())
}
