package shoal

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// catalogue is one table of what may be done to us or go wrong: a row for each, and in each the test that shows what happens then.
type catalogue struct {
	file, letter string
	rows         int
}

var catalogues = []catalogue{
	{"docs/SECURITY.md", "S", 18}, // against the server
	{"docs/SECURITY.md", "P", 17}, // against a serving peer
	{"docs/SECURITY.md", "D", 21}, // against a downloading peer
	{"docs/SECURITY.md", "W", 17}, // against the API and the page
	{"docs/SECURITY.md", "K", 12}, // against the disk
	{"docs/RELIABILITY.md", "F", 46},
}

// notApplicable stands where a row has no test. The third column then says why.
const notApplicable = "does not apply"

var (
	rowID    = regexp.MustCompile(`^[A-Z][0-9]+$`)
	testName = regexp.MustCompile("^`(?:([a-z0-9_./]+)\\.)?((?:Test|Fuzz)[A-Za-z0-9_]+)`$")
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// faults returns what is wrong with a catalogue. There says whether a folder has a test.
func (c catalogue) faults(document string, there func(folder, test string) bool) (out []string) {
	next := 1
	for _, line := range strings.Split(document, "\n") {
		row, is := strings.CutPrefix(strings.TrimSpace(line), "|")
		if !is {
			continue
		}
		cells := columns(row)
		id := cells[0]
		if !rowID.MatchString(id) || id[:1] != c.letter {
			continue
		}
		if want := fmt.Sprint(c.letter, next); id != want {
			out = append(out, fmt.Sprintf("%s stands where %s belongs", id, want))
		}
		next++
		if len(cells) != 4 {
			out = append(out, fmt.Sprintf("%s has %d columns, want 4", id, len(cells)))
			continue
		}
		for i, what := range []string{"what is done", "what happens then"} {
			if len(strings.Fields(cells[i+1])) < 3 {
				out = append(out, fmt.Sprintf("%s does not say %s", id, what))
			}
		}
		out = append(out, faultsOfTests(id, cells[2], cells[3], there)...)
	}
	if next-1 != c.rows {
		out = append(out, fmt.Sprintf("%d rows of %s, want %d", next-1, c.letter, c.rows))
	}
	return out
}

// columns parts a row. A bar behind a backslash is none.
func columns(row string) []string {
	const bar = "\x00"
	row = strings.TrimSuffix(strings.TrimSpace(strings.ReplaceAll(row, `\|`, bar)), "|")
	out := strings.Split(row, "|")
	for i, s := range out {
		out[i] = strings.TrimSpace(strings.ReplaceAll(s, bar, `\|`))
	}
	return out
}

func faultsOfTests(id, why, tests string, there func(folder, test string) bool) (out []string) {
	if tests == notApplicable {
		if len(strings.Fields(why)) < 6 {
			return []string{id + " does not apply, and does not say why"}
		}
		return nil
	}
	seen := make(map[string]bool)
	for _, s := range strings.Split(tests, ",") {
		s = strings.TrimSpace(s)
		m := testName.FindStringSubmatch(s)
		switch {
		case m == nil:
			out = append(out, fmt.Sprintf("%s: %q is no test's name", id, s))
		case seen[s]:
			out = append(out, fmt.Sprintf("%s names %s twice", id, s))
		case !there(m[1], m[2]):
			out = append(out, fmt.Sprintf("%s: there is no %s", id, s))
		}
		seen[s] = true
	}
	return out
}

// testsOf returns the tests of a folder; the empty name is the root's.
func testsOf(folder string) (out []string) {
	files, _ := filepath.Glob(filepath.Join(filepath.FromSlash(folder), "*_test.go"))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for _, m := range testFunc.FindAllSubmatch(b, -1) {
			out = append(out, string(m[1]))
		}
	}
	return out
}

func TestEachAttackAndFaultHasItsTest(t *testing.T) {
	tests := make(map[string][]string)
	there := func(folder, test string) bool {
		if tests[folder] == nil {
			tests[folder] = testsOf(folder)
		}
		return slices.Contains(tests[folder], test)
	}
	for _, c := range catalogues {
		t.Run(c.letter, func(t *testing.T) {
			document, err := os.ReadFile(filepath.FromSlash(c.file))
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range c.faults(string(document), there) {
				t.Error(fault)
			}
		})
	}
}

func TestABadCatalogueIsNoticed(t *testing.T) {
	c := catalogue{"", "X", 3}
	there := func(folder, test string) bool {
		return folder == "internal/a" && test == "TestOne" || folder == "" && test == "FuzzTwo"
	}
	good := []string{
		"| X1 | this is done | that happens then | `internal/a.TestOne`, `FuzzTwo` |",
		`| X2 | this \| is done | that happens then | ` + "`internal/a.TestOne` |",
		"| X3 | this is done | none of this can be, for a reason | does not apply |",
	}
	table := func(rows ...string) string {
		return "# Title\n\n| id | attack | behaviour | test |\n| --- | --- | --- | --- |\n" + strings.Join(rows, "\n") + "\n\n| Y1 | of another table |\n"
	}
	if faults := c.faults(table(good...), there); len(faults) > 0 {
		t.Errorf("a good one: %v", faults)
	}
	for want, rows := range map[string][]string{
		"2 rows of X, want 3":                        good[:2],
		"X2 stands where X3 belongs":                 {good[0], good[1], good[1]},
		"X3 stands where X2 belongs":                 {good[0], good[2], good[2]},
		"4 rows of X, want 3":                        append(slices.Clone(good), good[2]),
		"X1 has 3 columns, want 4":                   {"| X1 | this is done | that happens then |", good[1], good[2]},
		"X1 has 5 columns, want 4":                   {"| X1 | this is done | that happens | then | `internal/a.TestOne` |", good[1], good[2]},
		"X1 does not say what is done":               {"| X1 | | that happens then | `internal/a.TestOne` |", good[1], good[2]},
		"X1 does not say what happens then":          {"| X1 | this is done | | `internal/a.TestOne` |", good[1], good[2]},
		"X1: there is no `internal/a.TestOnee`":      {"| X1 | this is done | that happens then | `internal/a.TestOnee` |", good[1], good[2]},
		"X1: there is no `internal/b.TestOne`":       {"| X1 | this is done | that happens then | `internal/b.TestOne` |", good[1], good[2]},
		"X1: there is no `TestOne`":                  {"| X1 | this is done | that happens then | `TestOne` |", good[1], good[2]},
		"X1 names `internal/a.TestOne` twice":        {"| X1 | this is done | that happens then | `internal/a.TestOne`, `internal/a.TestOne` |", good[1], good[2]},
		`X1: "" is no test's name`:                   {"| X1 | this is done | that happens then | |", good[1], good[2]},
		`X1: "to be written" is no test's name`:      {"| X1 | this is done | that happens then | to be written |", good[1], good[2]},
		"X1: \"`internal/a.One`\" is no test's name": {"| X1 | this is done | that happens then | `internal/a.One` |", good[1], good[2]},
		"X3 does not apply, and does not say why":    {good[0], good[1], "| X3 | this is done | it is so | does not apply |"},
	} {
		if faults := c.faults(table(rows...), there); !slices.Contains(faults, want) {
			t.Errorf("found %v, want among them: %s", faults, want)
		}
	}
	if !slices.Contains(testsOf(""), "TestABadCatalogueIsNoticed") || len(testsOf("docs")) > 0 {
		t.Error("the tests of a folder are not found")
	}
}
