package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"shoal/internal/node"
	"shoal/internal/store"
	"shoal/internal/wire"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// nextCommand finds the commands in a failure's Next: see failure.
var nextCommand = regexp.MustCompile(`(?:^|  |; |: |\| |[A-Z]+=\S+ )shoal ((?:\$?'[^']*'|[^;'])*?)(?:  |;|$)`)

// commandsIn returns the commands that a text tells its reader to type, as words without the program's name.
func commandsIn(text string) (out [][]string) {
	for {
		at := nextCommand.FindStringSubmatchIndex(text)
		if at == nil {
			return out
		}
		out = append(out, words(text[at[2]:at[3]]))
		text = text[at[3]:]
	}
}

// words splits a command as a shell does, as far as shellQuote goes.
func words(line string) (out []string) {
	word, in, quoted := "", false, false
	for _, c := range line {
		switch {
		case c == '\'':
			quoted, in = !quoted, true
		case c == ' ' && !quoted:
			if in {
				out, word, in = append(out, word), "", false
			}
		default:
			word, in = word+string(c), true
		}
	}
	if in {
		out = append(out, word)
	}
	return out
}

func testRoot() *cobra.Command {
	root := newRoot(&env{stdout: io.Discard, stderr: io.Discard, screen: newScreen(io.Discard)})
	root.InitDefaultHelpCmd()
	return root
}

// checkCommand says what is wrong with a command that users are told to type; empty: nothing.
func checkCommand(root *cobra.Command, args []string) string {
	if len(args) > 0 && args[0] == "WORD" { // the command's own name
		return ""
	}
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err.Error()
	}
	if cmd == root && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return "there is no command " + args[0]
	}
	cmd.InitDefaultHelpFlag()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { flags.AddFlag(f) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { flags.AddFlag(f) })
	for _, a := range rest {
		if a == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		switch {
		case strings.HasPrefix(a, "--") && flags.Lookup(name) == nil, strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && a != "-" && flags.ShorthandLookup(name[:1]) == nil:
			return cmd.Name() + " has no flag " + a
		}
	}
	return ""
}

// sourceOf parses the files of a package that are no tests.
func sourceOf(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(paths) == 0 {
		t.Fatal(err, len(paths))
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// textOf writes an expression of strings, with a word in the place of what is known only when it runs.
func textOf(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(x.Value)
		return strings.NewReplacer("%s", "WORD", "%d", "7", "%q", "WORD").Replace(s)
	case *ast.BinaryExpr:
		return textOf(x.X) + textOf(x.Y)
	case *ast.ParenExpr:
		return textOf(x.X)
	case *ast.CallExpr:
		if f, ok := x.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Sprintf" {
			return textOf(x.Args[0])
		}
	}
	return "WORD"
}

// nexts returns all that the source tells users to do next: in failures, in what is assigned to one, in what makes failures, and in notes.
func nexts(files []*ast.File) (out []string) {
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if k, ok := n.Key.(*ast.Ident); ok && (k.Name == "Next" || k.Name == "next") {
					out = append(out, textOf(n.Value))
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					name := ""
					switch left := left.(type) {
					case *ast.SelectorExpr:
						name = left.Sel.Name
					case *ast.Ident:
						name = left.Name
					}
					if (name == "Next" || name == "newLink") && len(n.Lhs) == len(n.Rhs) {
						out = append(out, textOf(n.Rhs[i]))
					}
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"usage", "trust", "problem"}, f.Name) && len(n.Args) > 0 {
					out = append(out, textOf(n.Args[len(n.Args)-1]))
				}
			case *ast.CompositeLit: // of package api
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "refusal" && len(n.Elts) == 5 {
					out = append(out, textOf(n.Elts[4]))
				}
			}
			return true
		})
	}
	return out
}

// What users are told to type exists: every command, and every flag of it.
func TestEveryNextNamesCommandsThatExist(t *testing.T) {
	files := append(sourceOf(t, "."), sourceOf(t, "../../internal/api")...)
	all := nexts(files)
	commands := 0
	flag := regexp.MustCompile(`(?:^|[ (])(--?[a-z][a-z0-9-]*)`)
	for _, next := range all {
		rest := next
		for _, args := range commandsIn(next) {
			commands++
			if wrong := checkCommand(testRoot(), args); wrong != "" {
				t.Errorf("%q: %s", next, wrong)
			}
		}
		rest = nextCommand.ReplaceAllString(rest, " ")
		if strings.Contains(rest, "ssh ") || strings.Contains(rest, "ulimit") || strings.Contains(rest, "mkdir") {
			continue
		}
		for _, m := range flag.FindAllStringSubmatch(rest, -1) { // flags to add to the same command
			if !anyHas(testRoot(), m[1]) {
				t.Errorf("%q: no command has %s", next, m[1])
			}
		}
		if regexp.MustCompile(`(?:^|\W)shoal [a-z]`).MatchString(rest) {
			t.Errorf("%q: a command in it does not stand by itself", next)
		}
	}
	if len(all) < 60 || commands < 30 {
		t.Errorf("found %d texts with %d commands: does this test still see them?", len(all), commands)
	}
}

func anyHas(root *cobra.Command, flag string) bool {
	for _, cmd := range append(root.Commands(), root) {
		if checkCommand(root, []string{cmd.Name(), flag}) == "" && cmd != root || cmd == root && root.PersistentFlags().Lookup(strings.TrimLeft(flag, "-")) != nil {
			return true
		}
	}
	return false
}

func TestTheNextCheckFindsWhatIsWrong(t *testing.T) {
	for next, want := range map[string]string{
		"shoal ls": "", "shoal get --wait 'a b'    waits": "", "start  shoal peer  there": "", "shoal gte x": "no command gte", "x: shoal get --wiat a": "no flag --wiat",
		"shoal get -o PATH": "", "shoal get -z PATH": "no flag -z", "shoal --help": "", "shoal doctor --server h:1; else": "",
	} {
		found := commandsIn(next)
		if len(found) != 1 {
			t.Errorf("%q: %d commands", next, len(found))
			continue
		}
		if got := checkCommand(testRoot(), found[0]); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", next, got, want)
		}
	}
}

// Every failure in the source has a code of the table and its exit status, and every code is used.
func TestEveryCodeIsInTheTableAndUsed(t *testing.T) {
	exits := map[string]int{
		"exitInternal": 1, "exitUsage": 2, "exitNotFound": 3, "exitAmbiguous": 4, "exitUnreachable": 5, "exitIntegrity": 6, "exitSpace": 7, "exitPermission": 8,
		"exitTrust": 9, "exitIncomplete": 10, "exitExists": 11, "exitIncompatible": 12,
	}
	exits["exitPipe"] = exitPipe
	used := make(map[string]bool)
	files := append(sourceOf(t, "."), sourceOf(t, "../../internal/api")...)
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if t, ok := lit.Type.(*ast.ArrayType); ok {
				if id, ok := t.Elt.(*ast.Ident); ok && id.Name == "code" {
					return false // the table itself
				}
			}
			name, exit := "", 0
			for _, x := range lit.Elts {
				kv, keyed := x.(*ast.KeyValueExpr)
				if !keyed {
					if s := textOf(x); regexp.MustCompile(`^E-[A-Z-]+$`).MatchString(s) {
						name, exit = s, exitUsage // a refusal of the API
					}
					continue
				}
				switch k, _ := kv.Key.(*ast.Ident); {
				case k != nil && k.Name == "Code":
					name = textOf(kv.Value)
				case k != nil && k.Name == "Exit":
					if id, ok := kv.Value.(*ast.Ident); ok {
						exit = exits[id.Name]
					}
				}
			}
			if !strings.HasPrefix(name, "E-") {
				return true
			}
			used[name] = true
			c := codeNamed(name)
			switch {
			case c == nil:
				t.Errorf("%s is not in the table", name)
			case exit != 0 && c.exit != exit:
				t.Errorf("%s ends with %d, the table says %d", name, exit, c.exit)
			}
			return true
		})
	}
	seen := make(map[string]bool)
	for i, c := range codes {
		if !used[c.name] {
			t.Errorf("nothing ends with %s", c.name)
		}
		if seen[c.name] || classes[c.exit] == "" || c.what == "" || c.text == "" || i > 0 && c.exit < codes[i-1].exit {
			t.Errorf("%s: twice, without words, or not in the order of exit statuses", c.name)
		}
		seen[c.name] = true
		for _, m := range regexp.MustCompile("`shoal ([^`]*)`").FindAllStringSubmatch(c.text, -1) {
			if args := words(m[1]); args[0] != "COMMAND" && checkCommand(testRoot(), args) != "" {
				t.Errorf("%s: %q: %s", c.name, m[1], checkCommand(testRoot(), args))
			}
		}
	}
}

func TestErrorsPageIsTheTable(t *testing.T) {
	var want bytes.Buffer
	errorsPage(&want)
	const path = "../../docs/ERRORS.md"
	if os.Getenv("SHOAL_WRITE_GOLDEN") != "" {
		if err := os.WriteFile(path, want.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s is not what the program says (%v): make it anew with SHOAL_WRITE_GOLDEN=1", path, err)
	}
}

func TestNearFindsWhatWasMeant(t *testing.T) {
	names := []string{"ubuntu-lab.img", "cuda-12.tar", "old.iso", "a", "ubuntu-lab.img"}
	for word, want := range map[string]string{
		"ubuntu-lab.iso": "ubuntu-lab.img", "Ubuntu-Lab.img": "ubuntu-lab.img", "ubuntu": "ubuntu-lab.img", "cuda-21.tar": "cuda-12.tar", "odl.iso": "old.iso",
		"nothing.like": "", "b": "a", "": "a", "cuda": "cuda-12.tar", "cuda-12.tar": "",
	} {
		if got := strings.Join(near(word, names), " "); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		off  int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3}} {
		if got := distance(c.a, c.b); got != c.off {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.off)
		}
	}
}

// What is added to an error where more is known: names that are like it, what is kept, that nobody could be reached.
func TestErrorsSayWhatElseIsKnown(t *testing.T) {
	missing := &node.NoContentError{What: "ubuntu.iso"}
	list := func(context.Context) ([]wire.Entry, error) {
		return []wire.Entry{{Name: "other", Size: 1}, {Name: "ubuntu.img", Size: 3 << 30}}, errors.New("cut off")
	}
	for _, c := range []struct {
		err  error
		want failure
	}{
		{withNear(t.Context(), missing, "ubuntu.iso", list), failure{
			Code: "E-NAME-NOT-FOUND", Exit: 3, Cause: `did you mean: "ubuntu.img"  3.0 GiB`, Next: "shoal get ubuntu.img    or wait for the other:  shoal get --wait ubuntu.iso",
		}},
		{withNear(t.Context(), &node.NoContentError{What: "0123456789"}, "0123456789", list), failure{
			Code: "E-ID-NOT-FOUND", Exit: 3, Next: "shoal ls    shows what there is; shoal get --wait 0123456789    waits until somebody has it",
		}},
		{kept(store.ErrChanged, "f", 1<<20, 1<<30), failure{
			Code: "E-SOURCE-CHANGED", Exit: 6, Next: "wait until nobody writes to it, and run the command again", Kept: `1.0 MiB of 1.0 GiB of "f" are safe: the same command goes on`,
		}},
		{fetchFailed(t.Context(), nil, fmt.Errorf("%w for 1s", node.ErrNoProgress), node.FetchStatus{Phase: node.Meeting, Name: "f"}), failure{
			Code: "E-NO-SOURCE", Exit: 5, Cause: "the swarm server names holders, and no connection to them came about", Next: "shoal doctor",
		}},
		{fetchFailed(t.Context(), nil, fmt.Errorf("%w for 1s", node.ErrNoProgress), node.FetchStatus{Phase: node.Fetching, Name: "f"}), failure{
			Code: "E-STALLED", Exit: 10, Cause: "no holder delivers anything", Next: "run the same command again: it goes on where it stopped",
		}},
	} {
		got := explain(c.err)
		if got.Code != c.want.Code || got.Exit != c.want.Exit || got.Cause != c.want.Cause || got.Next != c.want.Next || got.Kept != c.want.Kept {
			t.Errorf("%v:\ngot  %+v\nwant %+v", c.err, *got, c.want)
		}
	}
	var out bytes.Buffer
	report(&env{stderr: &out, screen: newScreen(&out)}, kept(store.ErrChanged, "f", 1<<20, 1<<30))
	if lines := strings.Split(strings.TrimSpace(out.String()), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[1], "  next:  ") || !strings.HasPrefix(lines[2], "  kept:  1.0 MiB") {
		t.Errorf("printed %q", lines)
	}
	if errNoSwarm.Kept != "" {
		t.Error("an error that all share was changed")
	}
}
