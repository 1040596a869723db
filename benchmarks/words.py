"""What rows of results.csv mean in a sentence, and which of them the README shows.

Who makes a row a headline makes those headlines too that stand beside it: rival, ceiling, what it costs.
"""

from __future__ import annotations

MEANING = {
    "main/dataset_minutes": "`synthgen run syn4seg-mini` from a fresh clone, installation not counted",
    "main/kept_samples": "samples that it keeps",
    "main/peak_rss_gb": "memory of all its processes together, at the most",
    "masks/generated/coarse_iou": "masks of the images that it *generates*, IoU with an oracle's object (a segmenter "
    "trained on 3,000 exact drawings; n = images, before the filter): coarse, by a segmenter that has learnt "
    "from the 100 support drawings",
    "masks/generated/final_iou": "... after APF, APR and SABR",
    "masks/generated/final_broken": "... share of final masks below an IoU of 0.5",
    "masks/generated/kept_final_iou": "... of the samples that the filter keeps",
    "masks/generated/oracle_iou": "... the oracle's own IoU with held-out drawings: the ceiling",
    "masks/hand/final_iou": "60 generated images with outlines drawn by hand: IoU of the final mask (a pixel more "
    "or less costs a tenth; n = images)",
    "masks/hand/oracle_iou": "... of the oracle",
    "masks/hand/final_broken": "... share of final masks below an IoU of 0.5",
    "masks/drawn/coarse_miou": "masks on *drawings* with known truth, the class given as the prompt gives it; the mini "
    "SAM has learnt from 16,000 drawings of this world with their masks, and the band is 12.5 % of the side, twelve "
    "times the documented one: coarse, mIoU (n = support sets)",
    "masks/drawn/apf_miou": "... after APF",
    "masks/drawn/apr_miou": "... after APR",
    "masks/drawn/sabr_miou": "... after SABR: the final mask",
    "masks/drawn/coarse_boundary_f": "the same masks, boundary F (Euclidean, 0.75 % of the diagonal): coarse",
    "masks/drawn/sabr_boundary_f": "... after SABR",
    "masks/drawn/confidence_ece": "... expected calibration error of the confidence map",
    "photographs/coarse_miou": "24 street photographs labelled from 10 of *other* sequences (CamVid's three sequences "
    "held out in turn, n = sequences), ImageNet features, whitened within classes: prototypes alone, mIoU over 11 "
    "classes",
    "photographs/apr_miou": "... after APF and APR: what `label-photos` gives (a pixel left unlabelled is a miss)",
    "photographs/plain_coarse_miou": "... prototypes in the same features without whitening, as the paper has them",
    "photographs/gain_whitening_miou": "... gain of whitening, sequence by sequence",
    "photographs/sabr_miou": "... if SABR is switched on with the mini SAM",
    "photographs/gain_sabr_miou": "... gain of APF, APR and SABR, sequence by sequence",
    "photographs/sam_box_iou": "mini SAM on photographs: box of a true object to mask, IoU (n = objects)",
    "photographs/filled_box_iou": "... the filled box itself",
    "use/drawn/few_miou": "segtrain on 5 labelled drawings a class, 1,200 steps, mIoU on held-out drawings (n = seeds, "
    "here and below)",
    "use/drawn/few_plus_synthetic_miou": "... and the set that the default recipe makes from them, one for one, as "
    "many steps in all",
    "use/drawn/gain_few_plus_synthetic_miou": "... gain of it, seed by seed",
    "use/drawn/set_first_miou": "... the set first, then the labels alone (`--others-first 0.5`)",
    "use/drawn/unimatch_miou": "... the set's images without its masks, weak-to-strong consistency",
    "use/drawn/agree_miou": "... and its masks where the teacher says the same",
    "use/drawn/ceiling_miou": "... as many exact drawings first in place of the set: the ceiling",
    "use/drawn/ceiling_mixed_miou": "... mixed one for one in place of the set: the ceiling of that",
    "gfss/1shot/none/novel": "5 new classes from 1 labelled drawing each, 4 folds (README, Few-shot): novel mIoU "
    "without synthetic images",
    "gfss/1shot/sabr/novel": "... with the set that the recipe makes from the same drawings; its denoiser has learnt "
    "from captioned pictures of these classes, its SAM from their masks",
    "gfss/1shot/gain/novel": "... gain of it, seed by seed",
    "gfss/1shot/true/novel": "... with as many true drawings and true masks in place of the set: the ceiling",
    "gfss/1shot/gain/harmonic": "... gain in the harmonic mean of base and novel mIoU",
    "gfss/5shot/none/novel": "the same from 5 labelled drawings each: novel mIoU without synthetic images",
    "gfss/5shot/sabr/novel": "... with the set",
    "gfss/5shot/gain/novel": "... gain of it",
    "gfss/5shot/true/novel": "... the ceiling",
    "minis/vae_psnr_db": "mini VAE: reconstruction of held-out scenes (n = scenes)",
    "minis/object_obedience": "mini denoiser: a classifier of the same world finds the asked one of 20 classes; 60 "
    "images read by eye gave about 0.79",
    "minis/domain_obedience": "mini/streets-day, which has seen maps of day scenes alone: a classifier "
    "finds the asked one of 5 domains",
    "minis/controlnet_ratio": "mini ControlNet: a segmenter's mIoU on generated over that on drawn scenes (n = "
    "quarters "
    "of 120 scenes)",
    "minis/sam_box_miou": "mini SAM: IoU from ground-truth boxes of drawn objects over 1 % of the image (n = objects)",
    "minis/clip_top1_of_64": "mini CLIP: the right caption is the best of 64",
    "adapt/swap_domain": "`synthgen adapt` on 600 drawn *day* scenes; then maps of other scenes are rendered in five "
    "weathers by a prior that knows weather from captions and no map (n = thirds of 150 layouts; one training). "
    "Rendered without the look (style swap): a classifier finds the asked weather",
    "adapt/swap_map": "... a segmenter's mIoU on generated over that on drawn scenes",
    "adapt/finetuned_domain": "... the same ControlNet *with* the look: asked weather",
    "adapt/finetuned_map": "... map",
    "adapt/foreign_swap_domain": "scenes in a look that the prior never draws, shorter training; swap: asked weather",
    "adapt/foreign_swap_map": "... map",
    "adapt/foreign_finetuned_domain": "... the same ControlNet *with* the look: asked weather",
    "adapt/foreign_finetuned_map": "... map",
    "adapt/none_domain": "the ControlNet alone, no look, shorter training, from 600 labelled scenes: asked weather",
    "adapt/none_map": "... map",
    "adapt/labels_200_map": "... map from 200",
    "adapt/labels_50_map": "... map from 50",
    "adapt/onehot_map": "... map from 600, the condition as a channel a class",
    "adapt/leaky_domain": "... from 600 scenes of *all* weathers, captions that do not name it: asked weather",
    "adapt/leaky_map": "... map",
    "adapt/minutes": "the adaptation of `swap`: time on 2 processes of one thread",
    "adapt/peak_rss_gb": "... memory of all its processes together, at the most",
    "adapt/peak_rss_300_scenes_gb": "... memory with 300 labelled scenes, 20 steps of each stage",
    "adapt/peak_rss_3000_scenes_gb": "... with 3,000",
    "adapt/steps_s_ours": "ControlNet training, steps a second of one core, 32 windows a step",
    "adapt/steps_s_plain": "... a plain diffusers loop with everything in memory",
    "adapt/steps_s_ratio": "... ours over plain, round by round",
    "flexseg/source_adverse": "1,000 drawn *day* scenes with labels, tested at night, in fog, rain and snow: mIoU "
    "(n = seeds, here and below; 800 steps)",
    "flexseg/jitter_adverse": "... with strong jitter, as all that follow",
    "flexseg/plain_adverse": "... and 600 pictures of `synthgen run flexseg-mini` in that weather, plain loss "
    "(DGInStyle's trainer)",
    "flexseg/enhance_adverse": "... boundaries x 2.5, the fair control of UBE",
    "flexseg/ube_adverse": "... UBE",
    "flexseg/gap_ube_adverse": "... GAP + UBE",
    "flexseg/all_adverse": "... GAP + UBE + HAS: all of FLEX-Seg",
    "flexseg/ceiling_adverse": "... drawn weather with exact masks in place of the generated: the ceiling",
    "flexseg/ceiling_ube_adverse": "... the ceiling with UBE",
    "flexseg/jitter_day": "the same by day: labels and strong jitter alone",
    "flexseg/plain_day": "... and the generated pictures, plain loss",
    "flexseg/ube_day": "... UBE",
    "flexseg/warp1.5/gain_ube_adverse": "drawn weather, pictures warped by 1.5 px under their masks (400 steps): gain "
    "of UBE over the plain loss",
    "flexseg/warp1.5/ube_over_enhance_adverse": "... over boundaries x 2.5",
    "flexseg/camvid_dusk/jitter_miou": "305 photographs of CamVid by day, tested on its dusk sequence: strong jitter",
    "flexseg/camvid_dusk/plain_miou": "... and the same photographs darkened, plain loss",
    "flexseg/camvid_dusk/ube_miou": "... UBE",
    "flexseg/camvid_dusk/all_miou": "... all of FLEX-Seg",
    "flexseg/steps_s_ratio": "steps a second with GAP, UBE and HAS over those of plain training (n = rounds)",
    "clouds/source_jitter_avg5": "600 drawn *day* scenes with labels, strong jitter, tested in five weathers: mIoU, "
    "mean over weathers (n = seeds, here and below)",
    "clouds/selftrain_avg5": "... and 600 generated pictures in all weathers *without* labels, self-training at "
    "equal steps",
    "clouds/mixed_avg5": "... with ClassMix, a strong view, a quick teacher, weights by sure pixels",
    "clouds/sam_online_avg5": "... with the mini SAM in each step (CLOUDS)",
    "clouds/unimatch_avg5": "... by weak-to-strong consistency in place of it",
    "clouds/oracle_avg5": "... with the layouts behind the pictures as labels, which the pictures do not quite follow",
    "clouds/gain/mixed_adverse": "what self-training with ClassMix adds to strong jitter in night, fog, rain and snow",
    "clouds/gain/oracle_adverse": "... the layouts as labels",
    "clouds/gain/mixed_day": "what self-training with ClassMix costs by day: half as many labelled crops are seen",
    "clouds/weather/gain_mixed_adverse": "what self-training with ClassMix on drawings of the tested weathers, in "
    "place of generated pictures, adds in bad weather",
    "clouds/weather/gain_oracle_adverse": "... their labels",
    "clouds/weather/gain_mixed_day": "what self-training with ClassMix on them costs by day",
    "clouds/camvid/few_miou": "20 labelled frames of CamVid at 160 x 120, of the val split's own sequence",
    "clouds/camvid/few_unimatch_miou": "... and 285 further frames without labels, weak-to-strong consistency",
    "clouds/camvid/few_clouds_miou": "... self-training with ClassMix and a strong view, no SAM",
    "clouds/camvid/few_clouds_sam_miou": "... and a SAM that has seen drawings alone: what it costs",
    "clouds/camvid/few_photos_miou": "... with what `label-photos` says of the 285 from those 20",
    "clouds/camvid/all_labels_miou": "... with the labels of all frames: the ceiling",
    "clouds/camvid/closed_few_clouds": "... share of the way to it that self-training goes",
    "clouds/camvid_other/few_miou": "the 20 labelled frames are of another sequence: alone",
    "clouds/camvid_other/few_unimatch_miou": "... weak-to-strong consistency",
    "clouds/camvid_other/few_clouds_miou": "... self-training with ClassMix and a strong view",
    "clouds/camvid_other/few_photos_miou": "... with what `label-photos` says of the 285 from those 20",
    "clouds/camvid_other/all_labels_miou": "... the ceiling",
    "clouds/camvid_other/closed_few_clouds": "... share of the way to it that self-training goes",
    "clouds/camvid_other/closed_few_photos": "... that the labels of `label-photos` go",
    "clouds/camvid_other/gain_few_unimatch_held_out": "what weak-to-strong consistency adds at dusk, on a "
    "sequence of which nothing is learnt",
    "clouds/camvid_other/gain_few_clouds_held_out": "... self-training",
    "clouds/camvid_other/gain_few_photos_held_out": "... the labels of `label-photos`",
    "clouds/camvid_other/gain_all_labels_held_out": "... all labels",
    "iccld/night/ce_source_miou": "800 drawn *day* scenes with labels, tested on other layouts at night: mIoU (n = "
    "seeds, here and below; 1,000 steps), cross-entropy",
    "iccld/night/ce_jitter_miou": "... with strong jitter",
    "iccld/night/ce_selftrain_miou": "... with DACS on 800 unlabelled night scenes in its place: the real rival",
    "iccld/night/diffusion_source_miou": "... label latents denoised in place of cross-entropy, source alone",
    "iccld/night/intercoder_miou": "... and the inter-coder connections",
    "iccld/night/target_seen_miou": "... and night pictures in the encoder's batch norm, nothing learnt of them",
    "iccld/night/adversarial_miou": "... and the adversary",
    "iccld/night/full_miou": "... and DACS: all of `segtrain iccld`",
    "iccld/night/oracle_miou": "... cross-entropy with the labels of the night scenes as well: the ceiling",
    "iccld/night/gain_full_over_rival": "what all of `segtrain iccld` adds to the rival, seed by seed",
    "iccld/night/gain_diffusion": "... denoising to cross-entropy, source alone",
    "iccld/night/gain_intercoder": "... the inter-coder connections",
    "iccld/night/gain_target_seen": "... night pictures in the batch norm",
    "iccld/night/gain_adversary": "... the adversary",
    "iccld/night/gain_selftrain_of_diffusion": "... DACS to denoising",
    "iccld/night/gain_selftrain": "... DACS to cross-entropy",
    "iccld/weather/ce_source_miou": "the same with night, fog, rain and snow as the target: cross-entropy, source "
    "alone",
    "iccld/weather/ce_jitter_miou": "... with strong jitter",
    "iccld/weather/ce_selftrain_miou": "... the rival",
    "iccld/weather/diffusion_source_miou": "... denoised, source alone",
    "iccld/weather/full_miou": "... all of `segtrain iccld`",
    "iccld/weather/oracle_miou": "... the ceiling",
    "iccld/weather/gain_full_over_rival": "... what it adds to the rival",
    "iccld/weather/gain_diffusion": "... denoising to cross-entropy, source alone",
    "iccld/camvid_dusk/ce_source_miou": "CamVid's day sequences with labels, tested on the dusk sequence, whose "
    "photographs are the target without labels: cross-entropy, source alone",
    "iccld/camvid_dusk/ce_selftrain_miou": "... the rival",
    "iccld/camvid_dusk/full_miou": "... all of `segtrain iccld`",
    "iccld/camvid_dusk/gain_full_over_rival": "... what it adds to the rival",
    "engine/kills": "processes killed (SIGKILL) at random points of every stage, models by small stand-ins: one "
    "process, two workers, accelerate with two ranks, Ray",
    "engine/kills_identical": "... runs that end with the bytes of an undisturbed one (n = runs)",
    "engine/plain_images_s_cpu": "a plain diffusers loop, images a second and core",
    "engine/ours_images_s_cpu": "... our render path, whose bytes do not depend on the batch (groups of four rows)",
    "engine/plain_controlnet_images_s_cpu": "... plain, with a ControlNet",
    "engine/ours_controlnet_images_s_cpu": "... ours, with a ControlNet",
    "engine/overhead_cpu": "... share of our render time that is not denoiser, VAE or text encoder",
    "cgaug/energy/ap_t3": "unknown objects in bad weather (drawn streets; `benchmarks/cgaug.py`; n = seeds): a "
    "network of day streets, average precision of its energy",
    "cgaug/head/ap_t3": "... of an uncertainty head that learns objects pasted into days",
    "cgaug/pairs_old_loss/ap_t3": "... of both stages on pairs, known pixels of day and weather as one kind",
    "cgaug/full/ap_t3": "... of `segtrain multi-shift --keep 0.98`",
    "cgaug/ds_and_ss/ap_t3": "... of the same on pairs whose object has not the weather of its picture",
    "cgaug/ceiling/ap_t3": "... of the same with the kinds of the test and exact pairs: the ceiling",
    "cgaug/gain/over_energy/ap_t3": "... gain over the energy, seed by seed",
    "cgaug/gain/over_head/ap_t3": "... gain over the head alone",
    "cgaug/energy/alarm_t2": "share of known pixels in bad weather above the threshold that finds 95 % of the unknown "
    "ones by day: energy",
    "cgaug/head/alarm_t2": "... head alone",
    "cgaug/full/alarm_t2": "... `segtrain multi-shift`",
    "cgaug/energy/miou_t2": "mIoU in bad weather: the network of day streets",
    "cgaug/full/miou_t2": "... `segtrain multi-shift`",
    "cgaug/ceiling/miou_t2": "... one that has learnt all weathers from masks: the ceiling",
    "cgaug/generated/full/ap_t3": "average precision in bad weather with pairs that `synthgen run cgaug-mini` makes",
    "cgaug/generated/full/miou_t2": "... mIoU in bad weather",
    "cgaug/generation/accepted": "maps that `synthgen run cgaug-mini` makes a pair of, in at most 10 attempts "
    "(n = maps)",
    "cgaug/generation/attempts": "... attempts for a pair",
    "cgaug/gate/without_iou": "label of the pasted object against an oracle's, IoU (n = pictures): all pictures",
    "cgaug/gate/with_iou": "... those that SAM's gate keeps, with SAM's mask",
    "cgaug/gate/oracle_iou": "... the oracle itself on held-out drawings",
    "cgaug/camvid/energy/ap_t3": "the same on photographs at dusk (CamVid) with drawn objects: energy",
    "cgaug/camvid/head/ap_t3": "... head alone",
    "cgaug/camvid/full/ap_t3": "... `segtrain multi-shift`",
    "cgaug/cost/pairs_minute": "pairs a minute of `synthgen run cgaug-mini`, one process",
    "cgaug/cost/compose_ratio": "... time of composing over that of rendering",
    "cgaug/metrics/mb_100": "memory that pooled scores of 100 pictures of 1024 x 2048 px take, the process as a whole",
    "refine/sam_speedup": "batched SAM boundaries against SamPredictor (`set_image` once, `predict` a box), "
    "equal masks "
    "(n = images)",
    "refine/sam_speedup_reencoding": "... against a loop that calls `set_image` for every region",
    "verify/fuzz_cases": "datasets damaged in 16 ways, from a flipped bit to a decompression bomb",
    "verify/fuzz_found": "... that `synthgen verify` calls broken; it raised nothing and wrote nothing",
}

HEADLINES = frozenset(
    f"{prefix}/{name}"
    for prefix, names in {
        "main": "dataset_minutes kept_samples peak_rss_gb",
        "masks/generated": "coarse_iou final_iou final_broken oracle_iou",
        "masks/hand": "final_iou oracle_iou",
        "masks/drawn": "coarse_miou apf_miou apr_miou sabr_miou",
        "photographs": "coarse_miou apr_miou plain_coarse_miou gain_whitening_miou sabr_miou gain_sabr_miou",
        "use/drawn": "few_miou few_plus_synthetic_miou gain_few_plus_synthetic_miou set_first_miou unimatch_miou "
        "agree_miou ceiling_miou",
        "gfss/1shot": "none/novel sabr/novel gain/novel true/novel",
        "gfss/5shot": "none/novel sabr/novel gain/novel true/novel",
        "minis": "object_obedience",
        "adapt": "swap_domain swap_map none_domain none_map minutes",
        "flexseg": "source_adverse jitter_adverse plain_adverse enhance_adverse ube_adverse gap_ube_adverse "
        "all_adverse ceiling_adverse ceiling_ube_adverse jitter_day plain_day ube_day",
        "flexseg/camvid_dusk": "jitter_miou plain_miou ube_miou all_miou",
        "clouds": "source_jitter_avg5 selftrain_avg5 mixed_avg5 sam_online_avg5 unimatch_avg5 oracle_avg5 "
        "gain/mixed_adverse gain/oracle_adverse gain/mixed_day",
        "clouds/weather": "gain_mixed_adverse gain_oracle_adverse gain_mixed_day",
        "clouds/camvid": "few_miou few_unimatch_miou few_clouds_miou few_photos_miou all_labels_miou",
        "clouds/camvid_other": "few_miou few_unimatch_miou few_clouds_miou few_photos_miou all_labels_miou",
        "cgaug": "energy/ap_t3 head/ap_t3 pairs_old_loss/ap_t3 full/ap_t3 ds_and_ss/ap_t3 ceiling/ap_t3",
        "cgaug/generated": "full/ap_t3",
        "cgaug/camvid": "energy/ap_t3 head/ap_t3 full/ap_t3",
        "iccld/night": "ce_source_miou ce_jitter_miou ce_selftrain_miou diffusion_source_miou full_miou oracle_miou "
        "gain_full_over_rival gain_diffusion gain_selftrain_of_diffusion",
        "iccld/weather": "ce_source_miou ce_selftrain_miou diffusion_source_miou full_miou oracle_miou "
        "gain_full_over_rival gain_diffusion",
        "iccld/camvid_dusk": "ce_source_miou ce_selftrain_miou full_miou gain_full_over_rival",
        "engine": "kills kills_identical plain_images_s_cpu ours_images_s_cpu",
        "refine": "sam_speedup sam_speedup_reencoding",
        "verify": "fuzz_cases fuzz_found",
    }.items()
    for name in names.split()
)
"""What the README shows, of MEANING."""
SECTIONS = {
    "main": "The default run",
    "masks": "Masks",
    "photographs": "Labels of photographs",
    "use": "A set beside five labelled images a class",
    "gfss": "Few-shot",
    "minis": "The mini models",
    "adapt": "A generator for your own labels",
    "flexseg": "FLEX-Seg",
    "cgaug": "CG-Aug and MultiShiftSeg",
    "clouds": "CLOUDS and weak-to-strong consistency",
    "iccld": "ICCLD-style",
    "engine": "Engine",
    "refine": "Speed of SAM",
    "verify": "Damaged datasets",
}
