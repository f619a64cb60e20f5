package shoal

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// requirement is a line of go.mod that is no indirect one.
var requirement = regexp.MustCompile(`(?m)^\t(\S+\.\S+/\S+|\S+\.\S+) v\S+$`)

// libraryRow is a row of the table of libraries in docs/ARCHITECTURE.md: module, what for, who imports it.
var libraryRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\|$")

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each library that the program, its tests or its benchmarks import has a row that says what for, and names all who import it.
func TestEveryLibraryHasItsReasonAndItsImporters(t *testing.T) {
	_, table, found := strings.Cut(read(t, "docs/ARCHITECTURE.md"), "## Libraries")
	if !found {
		t.Fatal("docs/ARCHITECTURE.md has no section of libraries")
	}
	rows := make(map[string]string)
	for _, m := range libraryRow.FindAllStringSubmatch(table, -1) {
		if rows[m[1]] != "" {
			t.Errorf("%s has two rows", m[1])
		}
		rows[m[1]] = m[3]
	}
	var modules []string
	for _, m := range requirement.FindAllStringSubmatch(read(t, "go.mod"), -1) {
		modules = append(modules, m[1])
	}
	if len(modules) < 20 {
		t.Fatalf("go.mod requires only %v?", modules)
	}
	importers := importersOf(t, modules)
	for _, m := range modules {
		if want := strings.Join(importers[m], ", "); rows[m] != want {
			t.Errorf("%s is imported by %q; its row says %q", m, want, rows[m])
		}
		delete(rows, m)
	}
	for m := range rows {
		t.Errorf("%s has a row, and go.mod does not require it", m)
	}
}

// importersOf returns the packages of the program that import each module, benchmarks as one; "tests" where only tests do.
func importersOf(t *testing.T, modules []string) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	add := func(module, who string) {
		if !slices.Contains(out[module], who) {
			out[module] = append(out[module], who)
		}
	}
	tested := make(map[string]bool)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || path == "scripts/gosec") {
			if err == nil {
				err = filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		who := filepath.ToSlash(filepath.Dir(path))
		if strings.HasPrefix(who, "bench/") {
			who = "bench"
		}
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			for _, m := range modules {
				if name != m && !strings.HasPrefix(name, m+"/") {
					continue
				}
				if tested[m] = true; !strings.HasSuffix(path, "_test.go") && who != "test" {
					add(m, who)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for m := range tested {
		if len(out[m]) == 0 {
			add(m, "tests")
		}
	}
	return out
}

// Releases are built with one toolchain, and it is no older than the language that the source is written in.
func TestTheToolchainIsPinned(t *testing.T) {
	mod := read(t, "go.mod")
	pinned := regexp.MustCompile(`(?m)^toolchain go(\d+\.\d+)\.\d+$`).FindStringSubmatch(mod)
	language := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(mod)
	if pinned == nil || language == nil || pinned[1] < language[1] {
		t.Errorf("go.mod says %q and %q", pinned, language)
	}
	if script := read(t, "scripts/package"); !strings.Contains(script, "toolchain") {
		t.Error("scripts/package does not use the pinned toolchain")
	}
}

// What a binary is made of is what the linker says of it, and the same each time.
func TestTheBillOfMaterialsSaysWhatIsLinked(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "shoal")
	run := func(argv ...string) string {
		t.Helper()
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as releases are
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
		return string(out)
	}
	run("go", "build", "-o", binary, "./cmd/shoal")
	text := run("go", "run", "./scripts/sbom", binary, "1.2.3")
	if again := run("go", "run", "./scripts/sbom", binary, "1.2.3"); again != text {
		t.Error("it differs from run to run")
	}
	var doc struct {
		BomFormat, SpecVersion string
		Metadata               struct {
			Component struct{ Name, Version, Type string }
		}
		Components []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.BomFormat != "CycloneDX" || doc.SpecVersion != "1.6" || doc.Metadata.Component.Name != "shoal" || doc.Metadata.Component.Version != "1.2.3" {
		t.Errorf("it begins with %+v", doc)
	}
	has := make(map[string]bool)
	for _, c := range doc.Components {
		has[c.Name+" "+c.Version] = c.PURL == "pkg:golang/"+c.Name+"@"+c.Version
	}
	listed := 1 // the standard library
	for line := range strings.Lines(run("go", "version", "-m", binary)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			if listed++; !has[f[1]+" "+f[2]] {
				t.Errorf("%s %s is linked, and not in it", f[1], f[2])
			}
		}
	}
	if listed != len(doc.Components) || listed < 10 {
		t.Errorf("%d modules are linked, %d are in it", listed, len(doc.Components))
	}
}
