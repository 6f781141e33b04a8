// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// entryColumnMost bounds lists inside lists in block style: "- - - -" nests by two columns each.
const entryColumnMost = 200

// DecodeYAML reads documents parted by "---" and skips empty ones. It goes on after a document that is wrong, so the
// error is an ErrorList; its messages name the document and, where known, line and column.
func DecodeYAML(data []byte) ([]Object, error) {
	var objects []Object
	var errs ErrorList
	number := 1
	for _, part := range splitYAML(data) {
		o, err := decodePart(part.text)
		if err == nil && o == nil { // nothing but comments
			continue
		}
		if err == nil {
			objects = append(objects, o)
		}
		for _, e := range errorsIn(err) {
			at := fmt.Sprintf("document %d, line %d", number, part.line+max(e.line, 1))
			if e.column > 0 {
				at += fmt.Sprintf(", column %d", e.column)
			}
			e.Message = at + ": " + e.Message
			errs = append(errs, e)
		}
		number++
	}
	return objects, errs.OrNil()
}

// errorsIn lists the errors that DecodeJSON or decodePart found.
func errorsIn(err error) ErrorList {
	var many ErrorList
	var one *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &many):
		return many
	case errors.As(err, &one):
		return ErrorList{one}
	}
	return ErrorList{problem(CodeMalformed, "", "compare with docs/api", "%v", err)}
}

// part is one document of a stream; line is the number of lines before it.
type part struct {
	text []byte
	line int
}

// splitYAML parts a stream at its "---" lines. The parser is given one document at a time: it loses those that follow an
// empty one.
func splitYAML(data []byte) []part {
	var parts []part
	start, from := 0, 0
	line := 0
	for pos := 0; pos < len(data); line++ {
		end := bytes.IndexByte(data[pos:], '\n') + pos + 1
		if end == pos {
			end = len(data)
		}
		if divides(data[pos:end]) {
			parts = append(parts, part{data[start:pos], from})
			start, from = end, line+1
		}
		pos = end
	}
	return append(parts, part{data[start:], from})
}

// divides reports whether a line is "---", alone or with a comment.
func divides(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	text := bytes.TrimSpace(rest)
	return ok && (len(text) == 0 || (text[0] == '#' && rest[0] != '#'))
}

// decodePart reads one document; a nil object without an error is an empty one.
func decodePart(text []byte) (Object, error) {
	if len(text) > documentMost {
		return nil, problem(CodeTooLarge, "", "split it", "the document has %d bytes; at most %d are possible", len(text), documentMost)
	}
	tokens := lexer.Tokenize(string(text))
	if err := checkTokens(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, malformed(err)
	}
	if len(file.Docs) > 1 {
		return nil, problem(CodeMalformed, "", "part documents by a line that holds --- alone", "more than one document")
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	body := file.Docs[0].Body
	if body.Type() == ast.NullType || body.Type() == ast.CommentType || body.Type() == ast.CommentGroupType {
		return nil, nil
	}
	j, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, malformed(err)
	}
	o, err := DecodeJSON(j)
	for _, e := range errorsIn(err) {
		e.line, e.column = position(body, e.Field)
	}
	return o, err
}

// checkTokens refuses, before anything is built of it, what could make a short text large or nest without bound.
func checkTokens(tokens token.Tokens) *Error {
	depth := 0
	for _, t := range tokens {
		var e *Error
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType:
			e = problem(CodeUnsupported, "", "write the value out", "%q is an anchor, an alias or a tag, which documents do not use", t.Value)
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType:
			if depth == 0 && t.Position.Column > entryColumnMost {
				depth = depthMost + 1
			}
		}
		if depth > depthMost {
			e = problem(CodeTooLarge, "", "no kind needs that", "the document is nested more than %d deep", depthMost)
		}
		if e != nil {
			e.line, e.column = t.Position.Line, t.Position.Column
			return e
		}
	}
	return nil
}

// malformed makes an error of what the YAML parser says.
func malformed(err error) error {
	e := problem(CodeMalformed, "", "look at the indentation, at ':' and '-', and at quotes in that line", "not readable as YAML: %v", err)
	var y yaml.Error
	if !errors.As(err, &y) {
		return e
	}
	e.Message = "not readable as YAML: " + y.GetMessage()
	if t := y.GetToken(); t != nil && t.Position != nil {
		e.line, e.column = t.Position.Line, t.Position.Column
	}
	var twice *yaml.DuplicateKeyError
	if errors.As(err, &twice) || strings.Contains(y.GetMessage(), "already defined") {
		e.Code, e.Fix, e.Message = CodeDuplicate, "remove one", y.GetMessage()
	}
	return e
}

// position finds the line and column of a field such as spec.prefixes[0] in a document, or else of the document.
func position(body ast.Node, field string) (line, column int) {
	at := body.GetToken()
	if path, err := yaml.PathString("$." + field); field != "" && err == nil {
		if n, err := path.FilterNode(body); err == nil && n != nil && n.GetToken() != nil {
			at = n.GetToken()
			return at.Position.Line, at.Position.Column
		}
	}
	return at.Position.Line, 0
}
