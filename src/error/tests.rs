use super::*;

#[test]
fn the_code_is_that_of_the_error_which_waiting_helps_least() {
    let failed = Error::system("a", "b", "c");
    let permission = Error::permission("a", "p", "c");
    let parent = Error::parent_missing("a", "n", "c");
    let usage = Error::invalid_value("u", "v", "w");
    let code = |errors: &[&Error]| {
        let error = Error::all(errors.iter().map(|&error| error.clone())).unwrap_err();
        assert_eq!(error.exit_code(), error.code().exit_code());
        error.code()
    };
    assert_eq!(code(&[&parent]), ErrorCode::ParentMissing);
    assert_eq!(code(&[&parent, &permission]), ErrorCode::Permission);
    assert_eq!(code(&[&parent, &failed, &permission]), ErrorCode::System);
    assert_eq!(code(&[&failed, &usage]), ErrorCode::InvalidValue);
    let exits = [&parent, &permission, &failed, &usage].map(Error::exit_code);
    assert_eq!(exits, [4, 3, 1, 2]);
}

#[test]
fn one_reason_is_told_once() {
    let parent = Error::parent_missing("parent eth7", "is not there", "name another");
    let error = Error::all([parent.clone(), parent.clone()]).unwrap_err();
    assert_eq!(error, parent);
    assert_eq!(Error::all([]), Ok(()));
    let two = Error::all([parent.clone(), Error::system("a", "b", "c")]).unwrap_err();
    assert_eq!(two.to_string(), "parent eth7: is not there; name another\na: b; c");
    assert_eq!(two.problems().len(), 2);
}

#[test]
fn the_parts_of_a_message_stay_apart() {
    let error = Error::mac_taken("port vm1", "2:0:0:0:0:1 belongs to vm0", "choose another");
    let [problem] = error.problems() else { panic!("{error:?}") };
    assert_eq!(problem.code.name(), "mac-taken");
    assert_eq!((problem.object.as_str(), problem.remedy.as_str()), ("port vm1", "choose another"));
    assert_eq!(error.to_string(), "port vm1: 2:0:0:0:0:1 belongs to vm0; choose another");
}

#[test]
fn an_empty_part_leaves_no_mark() {
    let text = |object, reason, remedy| {
        Problem::new(ErrorCode::Conflict, object, reason, remedy).to_string()
    };
    assert_eq!(text("f:1", "", "write it"), "f:1: write it");
    assert_eq!(text("f:1", "is wrong", ""), "f:1: is wrong");
    assert_eq!(text("", "is wrong", "write it"), "is wrong; write it");
    assert_eq!(text("f:1", "", ""), "f:1");
}

#[test]
fn every_code_has_one_stable_name() {
    let names: HashSet<&str> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), ErrorCode::ALL.len());
    for code in ErrorCode::ALL {
        let kebab = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(code.name().chars().all(kebab), "{code:?}");
        assert!((1..=4).contains(&code.exit_code()), "{code:?}");
    }
}
