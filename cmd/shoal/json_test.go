package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemaOfOutput is docs/output.schema.json, without the licence to add fields.
func schemaOfOutput() (schema *jsonschema.Schema, kinds []string, err error) {
	f, err := os.Open(schemaPath)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		return nil, nil, err
	}
	defs, _ := doc.(map[string]any)["$defs"].(map[string]any)
	for kind, def := range defs {
		kinds = append(kinds, kind)
		closeObjects(def)
	}
	slices.Sort(kinds)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("output.json", doc); err != nil {
		return nil, nil, err
	}
	schema, err = c.Compile("output.json")
	return schema, kinds, err
}

var schemaPath = func() string {
	path, err := filepath.Abs(filepath.Join("..", "..", "docs", "output.schema.json"))
	if err != nil {
		panic(err)
	}
	return path
}()

func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, is := v["properties"]; is {
			v["additionalProperties"] = false
		}
		for _, each := range v {
			closeObjects(each)
		}
	case []any:
		for _, each := range v {
			closeObjects(each)
		}
	}
}

// fits is a script's command: what the last program printed are objects of the schema, of just these kinds.
func fits(ts *testscript.TestScript, neg bool, want []string) {
	schema, _, err := schemaOfOutput()
	ts.Check(err)
	var kinds []string
	for _, text := range strings.Split(strings.TrimSpace(ts.ReadFile("stdout")), "\n") {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		ts.Check(err)
		if err := schema.Validate(v); err != nil {
			ts.Fatalf("%s\n%v", text, err)
		}
		if kind, _ := v.(map[string]any)["t"].(string); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	slices.Sort(want)
	if neg || !slices.Equal(kinds, want) {
		ts.Fatalf("printed were %v, want %v", kinds, want)
	}
}

// Every kind of object in the program's text is in the schema and in docs/JSON.md, and the other way round.
func TestTheSchemaHasEveryKindOfObject(t *testing.T) {
	_, kinds, err := schemaOfOutput()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	made := []string{"error"} // errors.go sets it
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:\{\s*1|V: 1|= 1), (?:T: )?"([a-z]+)"`).FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(made, m[1]) {
				made = append(made, m[1])
			}
		}
	}
	slices.Sort(made)
	if !slices.Equal(made, kinds) {
		t.Errorf("the program makes %v,\nthe schema has %v", made, kinds)
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(schemaPath), "JSON.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if !strings.Contains(string(text), "| `"+kind+"` |") {
			t.Errorf("docs/JSON.md does not name %s", kind)
		}
	}
}

func TestTheSchemaRefusesWhatItDoesNotKnow(t *testing.T) {
	schema, _, err := schemaOfOutput()
	if err != nil {
		t.Fatal(err)
	}
	for text, good := range map[string]bool{
		`{"v":1,"t":"note","text":"a"}`:         true,
		`{"v":1,"t":"note"}`:                    false,
		`{"v":1,"t":"note","text":"a","b":1}`:   false,
		`{"v":2,"t":"note","text":"a"}`:         false,
		`{"v":1,"t":"nothing"}`:                 false,
		`{"v":1,"t":"web","url":5}`:             false,
		`{"t":"web","url":"http://127.0.0.1/"}`: false,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}
