// Command gosec runs the rules of gosec over packages: gosec . ./cmd/... ./internal/...
//
// It is a module of its own, since the program needs nothing of it; and it is not gosec's own command, which brings the clients of three
// language models with it and takes minutes to build. Rules are left out here, with the reason. A single place is excused where it is, by
// a comment "#nosec G402 -- reason": one without a reason is an error, too.
package main

import (
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"

	"github.com/securego/gosec/v2"
	"github.com/securego/gosec/v2/analyzers"
	"github.com/securego/gosec/v2/rules"
)

// leftOut are the rules that say nothing about this program, and why.
var leftOut = map[string]string{
	"G104": "errors that are not looked at: mostly closing what was only read, and deadlines; staticcheck finds results of pure functions, and what must last is synced",
	"G115": "each conversion of a number, also behind a check of its range: parsers check ranges (content.GeometryOf, wire's check.go) and are fuzzed, and pieces are at most 262,144",
	"G301": "folders that others may enter: manual pages and what is shared are to be read by others; secrets are in folders of mode 0700, which tests hold",
	"G304": "a path in a variable: opening what the user names is what the program is for; names from the network never are paths, and are kept inside a folder by os.Root",
	"G404": "chance that can be foretold: it chooses pieces, neighbours and pauses, and simulations must repeat; keys, tokens and links come from crypto/rand, in internal/identity and internal/api",
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gosec:", err)
		os.Exit(1)
	}
}

func run(paths []string) error {
	out := slices.Sorted(maps.Keys(leftOut))
	conf := gosec.NewConfig()
	a := gosec.NewAnalyzer(conf, false, true, false, 2, log.New(io.Discard, "", 0))
	a.LoadRules(rules.Generate(false, rules.NewRuleFilter(true, out...)).RulesInfo())
	a.LoadAnalyzers(analyzers.Generate(false, analyzers.NewAnalyzerFilter(true, out...)).AnalyzersInfo())
	var packages []string
	for _, path := range paths {
		list, err := gosec.PackagePaths(path, nil)
		if err != nil {
			return err
		}
		packages = append(packages, list...)
	}
	if err := a.Process(nil, packages...); err != nil {
		return err
	}
	issues, metrics, errs := a.Report()
	for file, list := range errs {
		return fmt.Errorf("%s: %v", file, list)
	}
	for _, i := range issues {
		fmt.Fprintf(os.Stderr, "%s:%s: %s: %s\n%s", i.File, i.Line, i.RuleID, i.What, i.Code)
	}
	switch {
	case len(issues) > 0:
		return fmt.Errorf("%d places; mend them, or excuse them there: // #nosec %s -- why", len(issues), issues[0].RuleID)
	case metrics.NumFiles < 100:
		return fmt.Errorf("only %d files were looked at", metrics.NumFiles)
	}
	return nil
}
