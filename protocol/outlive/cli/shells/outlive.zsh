#compdef outlive
# zsh completion for outlive. In ~/.zshrc, after compinit: eval "$(outlive completion zsh)"

_outlive() {
    local -a program=(@PROGRAM@) answer shown
    local line
    [[ -x $program[1] ]] || program=(outlive)
    answer=("${(@f)$("${program[@]}" __complete words "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}")
    case $answer[1] in
        '') return 1 ;;
        :files | :directories)
            compset -P '--*='
            if [[ $answer[1] == :files ]]; then _files; else _files -/; fi
            ;;
        :command)
            local -i at=${words[(i)--]}
            shift at words
            ((CURRENT -= at))
            _normal
            ;;
        *)
            for line in "${answer[@]}"; do
                shown+=("${${line%%$'\t'*}//:/\\:}${${line#*$'\t'}:+:${line#*$'\t'}}")
            done
            _describe -V outlive shown
            ;;
    esac
}

if [[ $funcstack[1] == _outlive ]]; then
    _outlive "$@"
else
    compdef _outlive outlive
fi
