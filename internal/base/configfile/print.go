// SPDX-License-Identifier: Apache-2.0

package configfile

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// lineMost is where comments are broken.
const lineMost = 100

// WriteDefault writes a file that has every setting with its meaning and its default, and changes nothing when it is read.
func (f *File) WriteDefault(w io.Writer) error {
	b := bufio.NewWriter(w)
	name := f.cmd.CommandPath()
	comment(b, fmt.Sprintf("Configuration of '%s', for its flag --%s.", name, flagConfig))
	comment(b, fmt.Sprintf("Each word is a flag of that command, and has its default here. A flag on the command line goes before this file. '%s --%s FILE --%s' says what is wrong with a file.", name, flagConfig, flagCheck))
	for flag := range f.flags() {
		fmt.Fprintln(b)
		comment(b, strings.ToUpper(flag.Usage[:1])+flag.Usage[1:]+". (--"+flag.Name+")")
		value, err := defaultOf(flag)
		if err != nil {
			return fmt.Errorf("print the default of --%s: %w", flag.Name, err)
		}
		fmt.Fprintf(b, "%s: %s\n", Word(flag.Name), value)
	}
	return b.Flush()
}

// defaultOf writes a flag's default as YAML.
func defaultOf(flag *pflag.Flag) (string, error) {
	text := flag.DefValue
	if _, list := flag.Value.(pflag.SliceValue); list {
		var values []string
		if text = strings.Trim(text, "[]"); text != "" {
			values = strings.Split(text, ",")
		}
		return inline(values)
	}
	switch flag.Value.Type() {
	case "bool", "int":
		return text, nil
	case "duration":
		if d, err := time.ParseDuration(text); err == nil {
			return short(d), nil
		}
	}
	return inline(text)
}

// short writes a time without units that are 0.
func short(d time.Duration) string {
	text := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, end) {
			text = text[:len(text)-2]
		}
	}
	return text
}

// inline writes a value in one line.
func inline(v any) (string, error) {
	if list, ok := v.([]string); ok && len(list) == 0 {
		return "[]", nil
	}
	data, err := yaml.MarshalWithOptions(v, yaml.Flow(true), yaml.UseLiteralStyleIfMultiline(false))
	return strings.TrimSpace(string(data)), err
}

// comment writes a text in lines that begin with #.
func comment(w io.Writer, text string) {
	line := "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > lineMost {
			fmt.Fprintln(w, line)
			line = "#"
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}
