package shoal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows is the plan of the house: what each package may import of this repository. docs/ARCHITECTURE.md explains it.
// A package that is not here does not exist; a row whose package is gone, or an arrow that nobody uses, is deleted.
var arrows = map[string]string{
	"cmd/shoal":          "internal/api internal/bundle internal/classic internal/content internal/daemon internal/demo internal/exchange internal/history internal/identity internal/node internal/page internal/schedule internal/sim internal/store internal/swarm internal/throttle internal/transfer internal/wire",
	"internal/classic":   "",
	"internal/content":   "",
	"internal/wire":      "internal/content",
	"internal/bundle":    "internal/content",
	"internal/schedule":  "",
	"internal/sim":       "internal/content internal/schedule",
	"internal/offence":   "",
	"internal/throttle":  "",
	"internal/faulty":    "",
	"internal/history":   "",
	"internal/lan":       "",
	"internal/identity":  "internal/content internal/wire",
	"internal/store":     "internal/bundle internal/content",
	"internal/peer":      "internal/classic internal/offence internal/throttle internal/wire",
	"internal/swarm":     "internal/classic internal/content internal/offence internal/throttle internal/wire",
	"internal/transfer":  "internal/schedule",
	"internal/exchange":  "internal/content internal/peer internal/schedule internal/store internal/wire",
	"internal/node":      "internal/bundle internal/classic internal/content internal/exchange internal/identity internal/lan internal/offence internal/peer internal/store internal/swarm internal/throttle internal/transfer internal/wire",
	"internal/daemon":    "internal/bundle internal/content internal/exchange internal/identity internal/node internal/store internal/wire",
	"internal/hostile":   "internal/classic internal/content internal/identity internal/swarm internal/wire",
	"internal/api":       "internal/daemon internal/identity internal/node internal/swarm",
	"internal/page":      "",
	"internal/demo":      "internal/identity internal/node internal/store internal/swarm",
	"bench/classic":      "bench/internal/lab",
	"bench/far":          "bench/internal/lab",
	"bench/flash":        "bench/internal/lab internal/content internal/hostile internal/identity internal/node internal/store",
	"bench/idle":         "bench/internal/lab",
	"bench/load":         "bench/internal/lab internal/classic internal/content internal/identity internal/node internal/wire",
	"bench/long":         "bench/internal/lab internal/content internal/sim internal/store",
	"bench/members":      "bench/internal/lab",
	"bench/peer":         "bench/internal/lab",
	"bench/verified":     "bench/internal/lab",
	"bench/tebi":         "bench/internal/lab internal/content internal/exchange internal/peer internal/store internal/wire",
	"bench/internal/lab": "",
	"deploy":             "",
	"scripts/gosec":      "",
	"scripts/sbom":       "",
	"scripts/session":    "",
	"test":               "",
}

// pure lists the packages that think: they open nothing, start nothing, log nothing, read no clock.
var pure = map[string]bool{"internal/bundle": true, "internal/classic": true, "internal/schedule": true, "internal/content": true, "internal/wire": true}

// impure lists what a pure package does not import.
var impure = []string{"os", "net", "io/fs", "log", "log/slog", "context", "sync", "sync/atomic", "math/rand", "syscall"}

// onlyImporter names the one package that may import a library, for libraries that must not spread.
var onlyImporter = map[string]string{
	"github.com/spf13/cobra":          "cmd/shoal",
	"github.com/spf13/cobra/doc":      "cmd/shoal",
	"github.com/spf13/pflag":          "cmd/shoal",
	"github.com/mattn/go-runewidth":   "cmd/shoal",
	"github.com/muesli/cancelreader":  "cmd/shoal",
	"github.com/lmittmann/tint":       "cmd/shoal",
	"github.com/dustin/go-humanize":   "cmd/shoal",
	"golang.org/x/term":               "cmd/shoal",
	"github.com/BurntSushi/toml":      "cmd/shoal",
	"github.com/fsnotify/fsnotify":    "internal/daemon",
	"github.com/fxamacker/cbor/v2":    "internal/wire",
	"golang.org/x/net/dns/dnsmessage": "internal/lan",
	"golang.org/x/net/ipv4":           "internal/lan",
	"golang.org/x/net/ipv6":           "internal/lan",
}

// imports returns what the non-test files of each package import, by the package's folder.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || filepath.Dir(path) == "." {
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if out[dir] == nil {
			out[dir] = []string{}
		}
		if strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			if !slices.Contains(out[dir], name) {
				out[dir] = append(out[dir], name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPackagesImportOnlyWhatThePlanAllows(t *testing.T) {
	all := imports(t)
	for dir, list := range all {
		allowed, known := arrows[dir]
		if !known {
			t.Errorf("%s is not in the plan", dir)
			continue
		}
		var used []string
		for _, name := range list {
			if own, ok := strings.CutPrefix(name, "shoal/"); ok {
				used = append(used, own)
			}
			if only, ok := onlyImporter[name]; ok && only != dir {
				t.Errorf("%s imports %s, which is for %s alone", dir, name, only)
			}
			if pure[dir] && slices.Contains(impure, name) {
				t.Errorf("%s is pure, and imports %s", dir, name)
			}
		}
		for _, name := range used {
			if !slices.Contains(strings.Fields(allowed), name) {
				t.Errorf("%s imports %s: no arrow allows that", dir, name)
			}
		}
		for _, name := range strings.Fields(allowed) {
			if !slices.Contains(used, name) {
				t.Errorf("%s does not import %s: delete the arrow", dir, name)
			}
		}
	}
	for dir := range arrows {
		if all[dir] == nil {
			t.Errorf("%s is in the plan, and is not there", dir)
		}
	}
}

// What lies is no part of the program.
func TestLiarsAreForTestsAndBenchmarksAlone(t *testing.T) {
	for dir, list := range imports(t) {
		if slices.Contains(list, "shoal/internal/hostile") && !strings.HasPrefix(dir, "bench/") {
			t.Errorf("%s imports the hostile peers", dir)
		}
	}
}
