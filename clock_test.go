package shoal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// wallClock is where the time of day is read, and why: to tell people or other machines, or to compare with a file's. Deadlines and waits are made of times as
// [time.Now] gives them, which go on evenly whatever happens to the machine's clock.
var wallClock = map[string]string{
	"internal/history/history.go UnixNano": "the name of a file",
	"internal/identity/certs.go Unix":      "a date in a certificate, which nobody looks at",
	"internal/identity/join.go Unix":       "when a member joined, for people",
	"internal/node/reach.go UnixMilli":     "how far two clocks are apart, for people",
	"internal/swarm/v2reach.go UnixMilli":  "the same",
	"internal/store/sys_linux.go UnixNano": "a file's stamp",
	"internal/store/sys_other.go UnixNano": "a file's stamp",
	"internal/daemon/watch.go UnixNano":    "a file's time, to be compared with itself",
	"internal/daemon/watch.go Unix":        "a file's time, to be compared with now: how old is it when the peer begins",
	"internal/api/api.go UnixNano":         "a number that no other process has",
	"internal/api/metrics.go UnixMilli":    "when the process began, for people",
}

// isOver says whether a call is time.Unix(1, 0): a deadline that is over, whatever the clock says.
func isOver(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Unix" || len(call.Args) != 2 {
		return false
	}
	for i, want := range []string{"1", "0"} {
		if lit, ok := call.Args[i].(*ast.BasicLit); !ok || lit.Value != want {
			return false
		}
	}
	return true
}

func TestNoDeadlineIsMadeOfTheClockOnTheWall(t *testing.T) {
	used := make(map[string]bool)
	err := filepath.WalkDir("internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && isOver(call) {
				return false
			}
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch sel.Sel.Name {
			case "Unix", "UnixNano", "UnixMilli", "UnixMicro":
				where := filepath.ToSlash(path) + " " + sel.Sel.Name
				used[where] = true
				if wallClock[where] == "" {
					t.Errorf("%s: %s gives the time of day, which jumps", set.Position(sel.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for where := range wallClock {
		if !used[where] {
			t.Errorf("%s: it is not used there: delete the row", where)
		}
	}
}
