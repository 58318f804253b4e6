//! Every program passes the verifier of the kernel at hand; the counts are printed.

use std::collections::BTreeMap;

use lb_agent::datapath::{
    attach::HOOKS,
    load::{LoadOptions, load, object},
    pin::Pins,
    probe,
};
use lb_tests::ground::Ground;

#[test]
#[ignore = "needs root"]
fn every_program_loads() {
    let ground = Ground::enter("verifier").unwrap();
    let pins = Pins::hold(&ground.bpf_dir()).unwrap();
    let sizes = BTreeMap::new();
    let options = LoadOptions { maps: &pins.maps(), sizes: &sizes, has_set_retval: probe::has_set_retval() };
    let loaded = load(&options).unwrap_or_else(|error| panic!("{error}"));
    let stacks = stacks();
    println!("kernel {}, set-retval {}", probe::kernel_release(), options.has_set_retval);
    println!("{:<14} {:>10} {:>10} {:>7}", "program", "verified", "translated", "stack");
    for (hook, _) in HOOKS {
        let program = &loaded.programs[hook];
        let verified = program.verified.map_or("-".to_owned(), |count| count.to_string());
        println!("{hook:<14} {verified:>10} {:>10} {:>7}", program.translated / 8, stacks[hook]);
        assert!(stacks[hook] <= 512, "{hook} uses {} bytes of stack", stacks[hook]);
        // The limit of 5.10 and above is a million; far less keeps loading quick and leaves room to grow.
        assert!(program.verified.is_none_or(|count| count < 100_000), "{hook}: {verified} instructions verified");
    }
    assert_eq!(loaded.programs.len(), HOOKS.len(), "the object holds a program that no hook uses");
}

/// The deepest stack offset of each program as compiled: everything is inlined, so a program is one frame.
fn stacks() -> BTreeMap<String, i32> {
    let object = aya_obj::Object::parse(object()).expect("the agent loads it too");
    let mut stacks = BTreeMap::new();
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let mut deepest = 0;
        let mut from_frame = [false; 11];
        for instruction in &function.instructions {
            let (code, to, from) = (instruction.code, instruction.dst_reg() as usize, instruction.src_reg() as usize);
            match code {
                // Loads and stores relative to the frame pointer.
                _ if matches!(code & 7, 2 | 3) && to == 10 => deepest = deepest.min(i32::from(instruction.off)),
                _ if code & 7 == 1 && from == 10 => deepest = deepest.min(i32::from(instruction.off)),
                // A copy of the frame pointer, then the constant added to it.
                0xbf => from_frame[to] = from == 10,
                0x07 if from_frame[to] => {
                    deepest = deepest.min(instruction.imm);
                    from_frame[to] = false;
                }
                // Any other instruction that writes the register, by arithmetic or by a load.
                _ if matches!(code & 7, 0 | 1 | 4 | 7) => from_frame[to] = false,
                _ => {}
            }
        }
        stacks.insert(name.clone(), -deepest);
    }
    stacks
}
