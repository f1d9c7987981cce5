# bash completion for outlive. In ~/.bashrc: eval "$(outlive completion bash)"

_outlive_ask() {
    local -a program=(@PROGRAM@)
    [[ -x ${program[0]} ]] || program=(outlive)
    COLUMNS=$COLUMNS "${program[@]}" __complete bash "$@" 2>/dev/null </dev/null
}

_outlive() {
    local -a answer
    mapfile -t answer < <(_outlive_ask "$1" "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" "$COMP_TYPE")
    COMPREPLY=()
    case ${answer[0]-} in
        :files) compopt -o default ;;
        :directories) compopt -o dirnames -o filenames ;;
        :command) _outlive_behind_dashes ;;
        *) COMPREPLY=("${answer[@]}") ;;
    esac
}

_outlive_behind_dashes() {
    local -i at=1
    while [[ ${COMP_WORDS[at]} != -- ]]; do at+=1; done
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset $((at + 1))
    elif declare -F _command_offset >/dev/null; then
        _command_offset $((at + 1))
    elif ((COMP_CWORD == at + 1)); then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
    else
        compopt -o default
    fi
}

complete -o nosort -F _outlive outlive 2>/dev/null || complete -F _outlive outlive
