// SPDX-License-Identifier: Apache-2.0

package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
	"github.com/spf13/pflag"

	"weft/internal/base/nearest"
)

// setting is one word of a file with its values; one that is no list has one.
type setting struct {
	word         string
	values       []string
	list         bool
	line, column int
}

// mistake is an error at a place of the file, from 1.
type mistake struct {
	line, column int
	err          error
}

func at(t *token.Token, format string, args ...any) []*mistake {
	m := &mistake{line: 1, column: 1, err: fmt.Errorf(format, args...)}
	if t != nil && t.Position != nil {
		m.line, m.column = t.Position.Line, t.Position.Column
	}
	return []*mistake{m}
}

// parse reads WORD: VALUE and WORD: [VALUE, ...]. It goes on after a word that is wrong.
func parse(data []byte) ([]setting, []*mistake) {
	if len(data) > sizeMost {
		return nil, at(nil, "the file has %d bytes; at most %d are possible", len(data), sizeMost)
	}
	if wrong := checkLetters(data); wrong != nil {
		return nil, wrong
	}
	tokens := lexer.Tokenize(string(data))
	if wrong := checkTokens(tokens); wrong != nil {
		return nil, wrong
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, malformed(err)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, nil
	}
	var pairs []*ast.MappingValueNode
	switch body := file.Docs[0].Body.(type) {
	case *ast.CommentGroupNode, *ast.CommentNode, *ast.NullNode:
	case *ast.MappingNode:
		pairs = body.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{body}
	default:
		return nil, at(body.GetToken(), "the file is not a list of lines like word: value")
	}
	return readPairs(pairs)
}

func readPairs(pairs []*ast.MappingValueNode) ([]setting, []*mistake) {
	var settings []setting
	var wrong []*mistake
	lines := make(map[string]int)
	for _, p := range pairs {
		s, m := readPair(p)
		if first, twice := lines[s.word]; m == nil && twice {
			m = at(p.Key.GetToken(), "%s is there twice, first in line %d: remove one", s.word, first)
		}
		if wrong = append(wrong, m...); m == nil {
			lines[s.word] = s.line
			settings = append(settings, s)
		}
	}
	return settings, wrong
}

// letters are what words are made of.
const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func readPair(p *ast.MappingValueNode) (setting, []*mistake) {
	key := p.Key.GetToken()
	s := setting{word: key.Value, line: key.Position.Line, column: key.Position.Column}
	if strings.Trim(s.word, letters) != "" {
		return s, at(key, "%q is no word", s.word)
	}
	switch v := p.Value.(type) {
	case *ast.NullNode:
		return s, at(key, "%s has no value: write one, or remove the line", s.word)
	case *ast.SequenceNode:
		s.list = true
		for _, e := range v.Values {
			text, ok := scalar(e)
			if !ok {
				return s, at(e.GetToken(), "%s is a list of single words or numbers", s.word)
			}
			s.values = append(s.values, text)
		}
	default:
		text, ok := scalar(v)
		if !ok {
			return s, at(key, "%s has one value, in the same line", s.word)
		}
		s.values = []string{text}
	}
	return s, nil
}

// scalar returns a value as it is written, so that 010 and yes stay what they are.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, !strings.Contains(n.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// checkLetters refuses what one does not see.
func checkLetters(data []byte) []*mistake {
	for i, line := range bytes.Split(data, []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		bad := bytes.IndexFunc(line, func(r rune) bool {
			return r == utf8.RuneError || r == '\ufeff' || r == '\u2028' || r == '\u2029' || unicode.IsControl(r) && r != '\t'
		})
		if bad >= 0 {
			return []*mistake{{line: i + 1, column: bad + 1, err: errors.New("an invisible character: write the line anew")}}
		}
	}
	return nil
}

// OneDocument refuses a text of several YAML documents, of which a decoder would take the first and forget the others.
func OneDocument(data []byte) error {
	if m := checkDocuments(lexer.Tokenize(string(data))); m != nil {
		return fmt.Errorf("line %d: %w", m[0].line, m[0].err)
	}
	return nil
}

func checkDocuments(tokens token.Tokens) []*mistake {
	content, ended := false, false
	for _, t := range tokens {
		switch t.Type {
		case token.CommentType:
			continue
		case token.DocumentHeaderType:
			if content {
				return at(t, "a second document begins: the file is one")
			}
		case token.DocumentEndType:
			ended = true
			continue
		}
		if content = true; ended {
			return at(t, "something follows the end of the document")
		}
	}
	return nil
}

// checkTokens refuses what a list of settings has no use for, before anything is built of it.
func checkTokens(tokens token.Tokens) []*mistake {
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType:
			return at(t, "%q is an anchor, an alias, a tag or a directive: write the value out", t.Value)
		case token.MappingStartType, token.SequenceStartType:
			depth++
		case token.MappingEndType, token.SequenceEndType:
			depth--
		}
		if depth > 2 || t.Type == token.SequenceEntryType && t.Position.Column > 40 {
			return at(t, "it is nested too deep: no setting needs that")
		}
	}
	return checkDocuments(tokens)
}

func malformed(err error) []*mistake {
	var y yaml.Error
	if !errors.As(err, &y) {
		return at(nil, "not readable as YAML: %v", err)
	}
	return at(y.GetToken(), "not readable as YAML: %s", y.GetMessage())
}

// unknown says what a word that no flag has may have meant.
func unknown(word string, flags map[string]*pflag.Flag) error {
	plain := strings.ToLower(strings.ReplaceAll(strings.TrimLeft(word, "-"), "-", ""))
	for known := range flags {
		if strings.ToLower(known) == plain {
			return fmt.Errorf("there is no setting %q; did you mean %s?", word, known)
		}
	}
	if like := nearest.Of(word, maps.Keys(flags)); like != "" {
		return fmt.Errorf("there is no setting %q; did you mean %s?", word, like)
	}
	return fmt.Errorf("there is no setting %q; 'weft … --%s' lists those that there are", word, flagDefault)
}
