// SPDX-License-Identifier: Apache-2.0

// Package configfile is the file that says how a process runs. Its words are the flags of the process's command, so that a new
// flag is a word of the file at once; a flag on the command line goes before the file, the file before the default. No variable
// of the environment is asked: what a process goes by stands in its command line and in the file that it names.
package configfile

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sizeMost bounds a file, bytes.
const sizeMost = 64 << 10

// Names of the flags that are about the file, and so no words of it.
const (
	flagConfig  = "config"
	flagDefault = "print-default-config"
	flagCheck   = "check-config"
)

// File is the configuration file of one command.
type File struct {
	cmd  *cobra.Command
	path string
	show bool
	try  bool
}

// Add gives a command the flags --config, --print-default-config and --check-config. Usual is where the file lies.
func Add(cmd *cobra.Command, usual string) *File {
	f := &File{cmd: cmd}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&f.path, flagConfig, "", "file that says all of this, such as "+usual+"; flags go before it")
	cmd.Flags().BoolVar(&f.show, flagDefault, false, "print a file with every setting, its meaning and its default, and end")
	cmd.Flags().BoolVar(&f.try, flagCheck, false, "say what is wrong with --config and the flags, and end")
	return f
}

// Path is what --config names; "" if nothing.
func (f *File) Path() string { return f.path }

// PrintsDefault reports whether the command is to print the default file and end.
func (f *File) PrintsDefault() bool { return f.show }

// ChecksOnly reports whether the command is to check what it was given and end.
func (f *File) ChecksOnly() bool { return f.try }

// Load gives the values of the file to all flags that the command line does not name. The error says every mistake, a line each.
func (f *File) Load() error {
	if f.path == "" {
		return nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("read the configuration (--config): %w", err)
	}
	return f.set(data)
}

// set is Load of a text.
func (f *File) set(data []byte) error {
	settings, wrong := parse(data)
	flags := make(map[string]*pflag.Flag)
	for flag := range f.flags() {
		flags[Word(flag.Name)] = flag
	}
	for _, s := range settings {
		if err := s.give(flags); err != nil {
			wrong = append(wrong, &mistake{s.line, s.column, err})
		}
	}
	var all []error
	for _, m := range wrong {
		all = append(all, fmt.Errorf("%s:%d:%d: %w", f.path, m.line, m.column, m.err))
	}
	return errors.Join(all...)
}

// give sets the flag that the setting is for, unless the command line has done so.
func (s setting) give(flags map[string]*pflag.Flag) error {
	flag, ok := flags[s.word]
	if !ok {
		return unknown(s.word, flags)
	}
	list, isList := flag.Value.(pflag.SliceValue)
	if s.list != isList {
		if isList {
			return fmt.Errorf("%s is a list: write %s: [a, b]", s.word, s.word)
		}
		return fmt.Errorf("%s has one value, and no list", s.word)
	}
	for _, v := range s.values {
		if err := fits(flag, v); err != nil {
			return fmt.Errorf("%s: %w", s.word, err)
		}
	}
	switch {
	case flag.Changed:
		return nil
	case isList:
		return list.Replace(s.values)
	}
	return flag.Value.Set(s.values[0])
}

// fits reports what keeps text from being a value of the flag.
func fits(flag *pflag.Flag, text string) (err error) {
	switch flag.Value.Type() {
	case "bool":
		if text != "true" && text != "false" {
			err = fmt.Errorf("%q is neither true nor false", text)
		}
	case "int":
		if _, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%q is not a whole number", text)
		}
	case "duration":
		if _, err = time.ParseDuration(text); err != nil {
			err = fmt.Errorf("%q is not a time such as 90s, 5m or 24h", text)
		}
	}
	return err
}

// flags lists the flags that are words of the file, in the order in which the command names them.
func (f *File) flags() iter.Seq[*pflag.Flag] {
	return func(yield func(*pflag.Flag) bool) {
		done := false
		f.cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			switch flag.Name {
			case flagConfig, flagDefault, flagCheck, "help", "version":
				return
			}
			done = done || !yield(flag)
		})
	}
}

// Word is the word of the file that a flag has: token-file is tokenFile.
func Word(flag string) string {
	parts := strings.Split(flag, "-")
	for i, p := range parts[1:] {
		switch p {
		case "mtu", "ca":
			p = strings.ToUpper(p)
		default:
			p = strings.ToUpper(p[:1]) + p[1:]
		}
		parts[i+1] = p
	}
	return strings.Join(parts, "")
}
