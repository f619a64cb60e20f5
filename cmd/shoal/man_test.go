package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// said runs a command line in this process, and returns what it printed.
func said(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs strings.Builder
	if code := run(t.Context(), &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errs}, args); code != 0 {
		t.Fatalf("%v ended with %d: %s", args, code, errs.String())
	}
	return out.String()
}

func TestTheReferenceIsThatOfTheCommands(t *testing.T) {
	had, err := os.ReadFile("../../docs/CLI.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(had), said(t, "man", "--markdown")); diff != "" {
		t.Errorf("docs/CLI.md is not what the commands say; make it anew with  go run ./cmd/shoal man --markdown > docs/CLI.md\n%s", diff)
	}
}

// Each command that help shows has a page, which man can set, and which does not differ from machine to machine.
func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	said(t, "man", dir, "--state", "/a/folder/of/this/machine")
	root := newRoot(&env{stdout: io.Discard, stderr: io.Discard, screen: newScreen(io.Discard)})
	for _, cmd := range root.Commands() {
		if !cmd.IsAvailableCommand() {
			continue
		}
		page := filepath.Join(dir, "shoal-"+cmd.Name()+".1")
		b, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		if !strings.Contains(string(b), cmd.Short) || !strings.Contains(string(b), `"Nov 2023"`) || strings.Contains(string(b), "this/machine") {
			t.Errorf("%s:\n%s", page, b)
		}
		if groff, err := exec.LookPath("groff"); err == nil {
			out, err := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z", page).CombinedOutput()
			if err != nil || strings.Contains(string(out), "error") {
				t.Errorf("%s: %v\n%s", page, err, out)
			}
		}
	}
}

// A name that a shell would not take as one word is offered by its id: who presses Tab types nothing that a stranger wrote.
func TestCompletionsAreWords(t *testing.T) {
	list := []named{
		{"a.img", "0123", "1 B"},
		{"$(reboot)", "4567", "2 B"},
		{"-rf", "89ab", "3 B"},
		{"a b", "cdef", "4 B"},
		{"", "a000", "5 B"},
		{"x:y", "b111", "6 B"},
		{"tab\tand\nline\x1b[2J", "c222", "7 B"},
	}
	want := []string{
		"a.img\t1 B", "4567\t\"$(reboot)\", 2 B", "89ab\t\"-rf\", 3 B", "cdef\t\"a b\", 4 B", "a000\t\"\", 5 B", "b111\t\"x:y\", 6 B",
		"c222\t" + quote("tab\tand\nline\x1b[2J") + ", 7 B",
	}
	if diff := cmp.Diff(want, completions(list, "")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a.img\t1 B", "a000\t\"\", 5 B"}, completions(list, "a")); diff != "" {
		t.Error(diff)
	}
	if got := completions(make([]named, 10*maxCompletions), ""); len(got) != maxCompletions {
		t.Errorf("%d words are offered, at most %d", len(got), maxCompletions)
	}
}

// Who is asked and never answers does not keep a shell waiting.
func TestCompletionDoesNotWait(t *testing.T) {
	silent := make(chan struct{})
	defer close(silent)
	cmd := &cobra.Command{}
	cmd.SetContext(context.Background())
	began := time.Now()
	out, _ := (&env{}).completer(1, func(context.Context) ([]named, error) {
		<-silent
		return []named{{name: "late"}}, nil
	})(cmd, nil, "")
	if took := time.Since(began); len(out) != 0 || took < completeTime || took > 20*completeTime {
		t.Errorf("%v after %v", out, took)
	}
}
