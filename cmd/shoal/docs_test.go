package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// documents are the pages that people read.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	for _, glob := range []string{"../../*.md", "../../docs/*.md", "../../docs/adr/*.md", "../../deploy/*.md", "../../bench/*.md"} {
		found, err := filepath.Glob(glob)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if len(paths) < 10 {
		t.Fatalf("only %v", paths)
	}
	return paths
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// headings are the anchors of a page, as GitHub makes them.
func headings(text string) map[string]bool {
	out := make(map[string]bool)
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			plain := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			out[strings.ReplaceAll(plain, " ", "-")] = true
		}
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			to := page
			if path != "" {
				to = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			} else if anchor != "" && !headings(read(t, to))[anchor] {
				t.Errorf("%s: %s: there is no such heading", page, m[1])
			}
		}
	}
}

// Every command line in the documents names a command and flags that exist.
func TestTheDocumentsNameCommandsThatExist(t *testing.T) {
	code := regexp.MustCompile("`([^`\n]+)`")
	// A command line ends where the shell's next word begins.
	line := regexp.MustCompile(`(?:^|[\s'(])shoal ((?:'[^']*'|[^'|&;<>#\n])*)`)
	quoted := regexp.MustCompile(`'([^']*)'`)
	owner := regexp.MustCompile(`-[ugo] shoal\b`) // the user of that name
	checked := 0
	for _, page := range documents(t) {
		if slices.Contains([]string{"CHANGELOG.md", "CLI.md", "PROTOCOL.md"}, filepath.Base(page)) || strings.Contains(page, "/adr/") || strings.Contains(page, "/bench/") {
			continue // what was is not what is, CLI.md is made by the commands, and what is signed begins with a word of ours, too
		}
		fenced := false
		for text := range strings.Lines(read(t, page)) {
			var candidates []string
			switch {
			case strings.HasPrefix(text, "```"):
				fenced = !fenced
			case fenced, strings.HasPrefix(text, "    "):
				candidates = []string{text}
			default:
				for _, m := range code.FindAllStringSubmatch(text, -1) {
					candidates = append(candidates, m[1])
				}
			}
			for _, c := range candidates {
				for _, m := range line.FindAllStringSubmatch(owner.ReplaceAllString(c, ""), -1) {
					words := strings.Fields(quoted.ReplaceAllString(m[1], "X"))
					if len(words) == 0 || strings.ToUpper(words[0]) == words[0] || strings.HasPrefix(words[0], "(") {
						continue
					}
					checked++
					if err := exists(words); err != nil {
						t.Errorf("%s: shoal %s: %v", page, strings.TrimSpace(m[1]), err)
					}
				}
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d command lines were found", checked)
	}
}

// exists says whether a command line is one that the program would take, but for its arguments.
func exists(words []string) error {
	root := newRoot(&env{stdout: io.Discard, stderr: io.Discard, screen: newScreen(io.Discard)})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if cmd == root && !strings.HasPrefix(words[0], "-") {
		return knownCommand(root, words)
	}
	cmd.InitDefaultHelpFlag()
	return parse(cmd, rest)
}

func parse(cmd *cobra.Command, rest []string) error {
	if i := slices.Index(rest, "..."); i >= 0 {
		rest = rest[:i]
	}
	return cmd.ParseFlags(rest)
}
